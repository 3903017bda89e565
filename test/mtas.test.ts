import { existsSync, readdirSync } from 'node:fs';
import { appendFile, mkdir, readFile, symlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { quote, quoteAll } from '@postern/core';
import { type Gate, readMaildir, type SmtpServer } from '@postern/gate';
import {
  asInstalled,
  canUnshare,
  fetchTool,
  type Installed,
  opensmtpd,
  startPostfix,
  startRig,
} from '@postern/testkit/rig';
import { createTransport } from 'nodemailer';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makePlace, PLAIN, type Place, postern, run, type Up, up } from './support/postern.ts';

/**
 * MTAs and programs that call sendmail, set up by what `postern setup` prints and nothing else: one message each while all is well, two more while the
 * network is away.
 */
const ROOT = process.getuid?.() === 0;
const CAN_UNSHARE = await canUnshare();
const LONGEST_WAIT = { timeout: 60_000 };
const FROM = 'ada@brook.test';
const TO = 'gate@gate.test';

let gate: Gate;
let laptop: Gate;
let place: Place;
let daemon: Up;

beforeAll(async () => {
  [gate, laptop] = await Promise.all([startRig({ smtp: { domains: ['*'] } }), startRig({ smtp: false, imapd: false })]);
  // Each MTA runs as a user of its own, as its notes say.
  place = await makePlace(gate, `${PLAIN}[access]\nallow = ["same-user", "user:mail", "user:nobody"]\n`);
  daemon = await up(place);
});

afterAll(async () => {
  await closeAll();
  await laptop?.stop();
  await gate?.stop();
});

async function closeAll(): Promise<void> {
  await Promise.all(Object.values(open).map((installed) => installed?.[Symbol.asyncDispose]()));
  await daemon?.stop();
}

interface Part {
  readonly type: 'file' | 'shell' | 'dialog';
  readonly where: string;
  readonly lines: readonly string[];
}

/** The lines, with the local password where they say PASSWORD. */
async function partsFor(client: string): Promise<readonly Part[]> {
  const ran = await postern(place, ['setup', client, '--json']);
  expect(ran).toMatchObject({ code: 0, stderr: '' });
  const password = ran.stdout.includes('PASSWORD') ? (await postern(place, ['password'])).stdout.trim() : '';
  return (JSON.parse(ran.stdout.replaceAll('PASSWORD', password)) as { parts: Part[] }).parts;
}

/** The files of /etc that the lines are for, and those that they copy there. */
async function etcOf(parts: readonly Part[]): Promise<Record<string, string>> {
  const files = parts
    .filter(({ type, where }) => type === 'file' && where.startsWith('/etc/'))
    .map(({ where, lines }): [string, string] => [where.slice('/etc/'.length), `${lines.join('\n')}\n`]);
  for (const line of parts.flatMap(({ type, lines }) => (type === 'shell' ? lines : []))) {
    const [, from, to] = /^install -D -m 644 (\S+) (\S+)$/.exec(line) ?? [];
    if (from === undefined || to === undefined) continue;
    // update-ca-certificates puts what it finds in the other directory into this one file.
    const path = to.startsWith('/etc/') ? to.slice('/etc/'.length) : 'ssl/certs/ca-certificates.crt';
    files.push([path, await readFile(from, 'utf8')]);
  }
  return Object.fromEntries(files);
}

const message = (mark: string): string =>
  `From: Ada <${FROM}>\nTo: ${TO}\nSubject: ${mark}\n\n${mark}\n.\nbehind the dot\n`;

/** MTAs in their own view of the file system, while they run. */
const open: Record<string, Installed> = {};

/** As root a program of Debian's user `mail` runs as that user. */
const asMail = ROOT ? 'setpriv --reuid mail --regid mail --clear-groups ' : '';

async function expectAccepted(name: string, command: string, mark: string): Promise<void> {
  const ran = await open[name]?.run(command, message(mark));
  expect(ran, `${JSON.stringify(ran)}${open[name]?.log()}`).toMatchObject({ code: 0 });
}

/** How each is set up, and how it is given a message. */
interface Sender {
  prepare(): Promise<void>;
  give(mark: string): Promise<void>;
  /** False where this machine cannot run it. */
  readonly here: boolean;
  /** Where it goes, when not to {@link TO}; who sent it, when not {@link FROM}. */
  readonly to?: string;
  readonly from?: RegExp;
}

let postfix: SmtpServer | undefined;
/** What stands for a Postfix as Debian installs it: the rig's own lets nothing out. */
const SENDS = {
  default_transport: false,
  smtpd_relay_restrictions: 'permit_mynetworks, reject_unauth_destination',
} as const;
const POSTFIX: Sender = {
  here: true,
  async prepare() {
    // Anew each time: a process from before a reload would speak by the old settings, and the relay's refusal would be final.
    await postfix?.stop();
    postfix = await startPostfix(laptop, { domains: ['laptop.test'], settings: SENDS });
    const tool = await fetchTool('postconf');
    const conf = join(laptop.dir, 'postfix', 'conf');
    const [master = 0] = await postfix.pids();
    const script = [
      `postconf() { ${quoteAll([tool.command, ...tool.args, '-c', conf])} "$@"; }`,
      // `postfix reload` sends its master this signal.
      `postfix() { kill -HUP ${master}; }`,
      ...(await partsFor('postfix'))
        .flatMap(({ lines }) => lines)
        .map((line) => line.replaceAll('/etc/', `${laptop.dir}/etc/`)),
    ];
    expect(await run('sh', ['-e', '-c', script.join('\n')], { env: { ...process.env, ...tool.env } })).toMatchObject({
      code: 0,
    });
  },
  async give(mark) {
    const transport = createTransport({ host: '127.0.0.1', port: postfix?.port ?? 0, ignoreTLS: true });
    await transport.sendMail({ envelope: { from: FROM, to: TO }, raw: message(mark) });
    transport.close();
  },
};

const NULLMAILER: Sender = {
  here: CAN_UNSHARE,
  async prepare() {
    open.nullmailer = await asInstalled({
      name: 'nullmailer',
      dir: join(gate.dir, 'nullmailer'),
      etc: { ...(await etcOf(await partsFor('nullmailer'))), 'nullmailer/me': 'laptop.test\n' },
      prepare: [
        'mkdir /var/spool/nullmailer; cd /var/spool/nullmailer; mkdir queue tmp failed; mkfifo trigger',
        ROOT ? 'chown -R mail:mail .' : '',
        'cd /',
      ].join('\n'),
      daemon: `${asMail}/usr/sbin/nullmailer-send`,
    });
  },
  give: (mark) => expectAccepted('nullmailer', `${asMail}sendmail -i -f ${FROM} ${TO}`, mark),
};

const OPENSMTPD: Sender = {
  here: CAN_UNSHARE && ROOT,
  async prepare() {
    const dir = join(gate.dir, 'opensmtpd');
    const installed = await asInstalled(opensmtpd({ dir, etc: await etcOf(await partsFor('opensmtpd')) }));
    open.opensmtpd = installed;
    await expect.poll(async () => (await installed.run('test -S /run/smtpd.sock')).code, LONGEST_WAIT).toBe(0);
  },
  give: (mark) => expectAccepted('opensmtpd', `sendmail -i -f ${FROM} ${TO}`, mark),
};

/** dma refuses to be root, and becomes `mail` when it is. */
const DMA: Sender = {
  here: CAN_UNSHARE,
  async prepare() {
    open.dma = await asInstalled({
      name: 'dma',
      dir: join(gate.dir, 'dma'),
      etc: await etcOf(await partsFor('dma')),
      prepare: `mkdir -m 2775 /var/spool/dma${ROOT ? '; chown mail:mail /var/spool/dma' : ''}`,
    });
  },
  give: (mark) => expectAccepted('dma', `${ROOT ? '' : 'unshare -U --map-user=1 '}dma -i -f ${FROM} ${TO}`, mark),
};

let home: string;
/** Lays the lines for programs that call sendmail into a home. */
async function prepareHome(): Promise<void> {
  home = join(gate.dir, 'ada');
  if ((await run('test', ['-d', home])).code === 0) return;
  await mkdir(home);
  // The command runs from sources here, whatever directory a program starts it in.
  await symlink(resolve(import.meta.dirname, '../node_modules'), join(home, 'node_modules'));
  const parts = await partsFor('sendmail');
  for (const { type, where, lines } of parts) {
    const file = join(home, (where.split(' ')[0] ?? '').replace(/^~\//, ''));
    if (type !== 'file') continue;
    await mkdir(dirname(file), { recursive: true });
    await appendFile(file, `${lines.join('\n')}\n`);
  }
  const shells = parts.filter(({ type }) => type === 'shell').flatMap(({ lines }) => lines);
  expect(await run('sh', ['-e', '-c', shells.join('\n')], { env: bare(), cwd: home })).toMatchObject({ code: 0 });
}

/** What cron leaves of an environment (crontab(5)). */
const bare = (): NodeJS.ProcessEnv => ({ HOME: home, LOGNAME: 'ada', SHELL: '/bin/sh', PATH: '/usr/bin:/bin' });

const CRON: Sender = {
  here: true,
  prepare: prepareHome,
  async give(mark) {
    const mail = `From: root (Cron Daemon)\nTo: root\nSubject: ${mark}\nContent-Type: text/plain; charset=UTF-8\nAuto-Submitted: auto-generated\n\n.\n`;
    // As Debian's cron 3.0 has it.
    const line = `exec ${quote(join(home, '.local/bin/sendmail'))} -FCronDaemon -i -B8BITMIME -oem root`;
    const ran = await run('/bin/sh', ['-c', line], { env: bare(), cwd: home, input: mail });
    expect(ran).toEqual({ code: 0, stdout: '', stderr: '' });
  },
  to: `root@${hostname()}`,
  from: /^Return-path: <[^@>]+@[^>]+>/m,
};

const MAIL: Sender = {
  here: true,
  prepare: prepareHome,
  async give(mark) {
    const tool = await fetchTool('bsd-mailx');
    const env = { ...bare(), ...tool.env };
    const args = [...tool.args, '-s', mark, TO];
    const ran = await run(tool.command, args, { env, cwd: home, input: `${mark}\n.\nbehind the dot\n` });
    expect(ran).toEqual({ code: 0, stdout: '', stderr: '' });
  },
  from: /^Return-path: <[^@>]+@[^>]+>/m,
};

const SENDERS: Record<string, Sender> = {
  Postfix: POSTFIX,
  nullmailer: NULLMAILER,
  OpenSMTPD: OPENSMTPD,
  dma: DMA,
  cron: CRON,
  'mail(1)': MAIL,
};
const HERE = Object.entries(SENDERS).filter(([, { here }]) => here);

/** The messages of the far Maildir with this subject. */
async function arrived(mark: string): Promise<string[]> {
  const texts = (await readMaildir(gate.maildir)).map((bytes) => bytes.toString('latin1').replaceAll('\r\n', '\n'));
  return texts.filter((text) => text.includes(`Subject: ${mark}\n`));
}

async function queued(): Promise<{ id: string; state: string; attempts: number }[]> {
  return JSON.parse((await postern(place, ['queue', 'list', '--json'])).stdout);
}

describe('while all is well', () => {
  for (const [name, { here }] of Object.entries(SENDERS))
    if (!here) test.skip(`${name}: not without privilege`, () => {});

  test.each(HERE)('%s', async (name, sender) => {
    await sender.prepare();
    await sender.give(`well-${name}`);
    await expect.poll(() => arrived(`well-${name}`), LONGEST_WAIT).not.toEqual([]);
    const copies = await arrived(`well-${name}`);
    expect(copies).toHaveLength(1);
    const [text = ''] = copies;
    expect(text).toMatch(sender.from ?? new RegExp(`^Return-path: <${FROM}>$`, 'm'));
    expect(text).toMatch(new RegExp(`^Envelope-to: ${sender.to ?? TO}$`, 'm'));
    expect(text).not.toMatch(/^Bcc:/im);
    expect(text).toMatch(/\n\.\n/);
  });
});

test('the network goes away, each is given two messages, and when it is back each arrives once', async () => {
  await expect.poll(queued, LONGEST_WAIT).toEqual([]);
  const before = (await readMaildir(gate.maildir)).length;
  await gate.ssh.stop();
  await daemon.logged(/link down/);
  const marks = HERE.flatMap(([name]) => [`first-${name}`, `second-${name}`]);
  for (const [name, sender] of HERE) {
    await sender.give(`first-${name}`);
    await sender.give(`second-${name}`);
  }
  await expect.poll(async () => (await queued()).length, LONGEST_WAIT).toBe(marks.length);
  // Nobody was told of a failure, and no attempt was charged.
  expect((await queued()).every(({ state, attempts }) => state === 'queued' && attempts === 0)).toBe(true);
  await gate.ssh.start();
  expect(await postern(place, ['queue', 'flush'])).toMatchObject({ code: 0 });
  await expect.poll(queued, LONGEST_WAIT).toEqual([]);
  await expect
    .poll(async () => (await Promise.all(marks.map(arrived))).map((copies) => copies.length), LONGEST_WAIT)
    .toEqual(marks.map(() => 1));
  expect(await readMaildir(gate.maildir)).toHaveLength(before + marks.length);
});

/** Postfix logs in through Cyrus SASL, which looks for its mechanisms at a path that is compiled in (libsasl2-modules). */
const HAS_SASL_PLAIN = readdirSync('/usr/lib').some((dir) => existsSync(`/usr/lib/${dir}/sasl2/libplain.so`));

describe.each(['starttls', 'implicit'])('over TLS (%s), the certificate verified, with the local password', (tls) => {
  beforeAll(async () => {
    await closeAll();
    const config = PLAIN.replace('[smtp]\n', `[smtp]\ntls = "${tls}"\n`);
    place = await makePlace(gate, `${config}[access]\nallow = ["password"]\n`, tls);
    daemon = await up(place);
  });

  const able = HERE.filter(([name, { prepare }]) => prepare !== prepareHome && (name !== 'Postfix' || HAS_SASL_PLAIN));
  test.each(able)('%s', async (name, sender) => {
    await sender.prepare();
    await sender.give(`${tls}-${name}`);
    await expect.poll(async () => (await arrived(`${tls}-${name}`)).length, LONGEST_WAIT).toBe(1);
  });
});
