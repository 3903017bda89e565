import { spawn } from 'node:child_process';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { type Gate, makeKey, readMaildir } from '@postern/gate';
import { startRig } from '@postern/testkit/rig';
import { createTransport } from 'nodemailer';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  FROM_SOURCES,
  hostPort,
  makePlace,
  PLAIN,
  type Place,
  postern,
  type Ran,
  run,
  runTool,
  up,
} from './support/postern.ts';

/** The main job on real parts: sshd, Dovecot's imapd and Exim; every fault it can meet, and that no mail is lost by any. */
let gate: Gate;
beforeAll(async () => {
  gate = await startRig({ smtp: { refuse: { nobody: '5.1.1 No such user here' } } });
});
afterAll(() => gate?.stop());

const ME = 'gate@gate.test';
const LONGEST_WAIT = { timeout: 60_000 };

/** Hands a message to the relay; resolves when it has said 250. */
async function send(smtp: string | undefined, o: { subject: string; to?: string[] }): Promise<void> {
  const transport = createTransport({ ...hostPort(smtp), secure: false, ignoreTLS: true });
  await transport.sendMail({ from: ME, to: o.to ?? [ME], subject: o.subject, text: 'main job\n' });
  transport.close();
}

/** The only message of the far Maildir that holds `mark`, once it is there. */
async function arrived(mark: string): Promise<string> {
  const found = async (): Promise<string[]> =>
    (await readMaildir(gate.maildir)).map((bytes) => bytes.toString('latin1')).filter((text) => text.includes(mark));
  await expect.poll(async () => (await found()).length, LONGEST_WAIT).toBe(1);
  return (await found())[0] ?? '';
}

async function queue(
  place: Place,
): Promise<{ state: string; reason: string; recipients: { outcome: string | null }[] }[]> {
  const ran = await postern(place, ['queue', 'list', '--json']);
  expect(ran, ran.stderr).toMatchObject({ code: 0 });
  return JSON.parse(ran.stdout);
}

const queueEnds = (place: Place) => expect.poll(() => queue(place), LONGEST_WAIT).toEqual([]);

/** One sentence, its fix on the next line, and never a stack. */
function expectOneSentence(ran: Ran, says: RegExp): void {
  expect(ran.stderr).toMatch(/^postern: [^\n]+\n( {2}fix: [^\n]+\n)?$/);
  expect(ran.stderr).toMatch(says);
}

describe('a gate named only in ssh_config', () => {
  test('`postern up gate`: one recipient gets the message, the refused one a bounce, the queue ends empty', async () => {
    const place = await makePlace(gate, PLAIN, 'main');
    await using daemon = await up(place);
    await send(daemon.smtp[0], { subject: 'one-good-one-bad', to: [ME, 'nobody@gate.test'] });
    await expect.poll(async () => (await readMaildir(gate.maildir)).length, LONGEST_WAIT).toBe(2);
    const texts = (await readMaildir(gate.maildir)).map(String);
    const bounce = texts.find((text) => /^Content-Type: multipart\/report/m.test(text)) ?? '';
    expect(texts.filter((text) => text !== bounce)[0]).toContain('Subject: one-good-one-bad');
    expect(bounce).toMatch(/Final-Recipient: rfc822; ?nobody@gate\.test/);
    expect(bounce).toMatch(/Status: 5\.1\.1/);
    await queueEnds(place);
    const listing = await runTool('curl', [
      '-sS',
      `imap://${daemon.imap[0]}/INBOX`,
      '-u',
      'a:b',
      '-X',
      'STATUS INBOX (MESSAGES)',
    ]);
    expect(listing.stdout).toContain('(MESSAGES 2)');
    expect(await daemon.stop()).toBe(0);
  });

  test('needs no configuration file: $HOME/.ssh/config and command line say it all', async () => {
    const home = join(gate.dir, 'homeless');
    await mkdir(join(home, '.ssh'), { recursive: true, mode: 0o700 });
    await copyFile(gate.client.configFile, join(home, '.ssh', 'config'));
    const { XDG_RUNTIME_DIR: _r, XDG_STATE_HOME: _s, XDG_CONFIG_HOME: _c, POSTERN_CONFIG: _p, ...rest } = process.env;
    const args = ['up', 'gate', '--imap', '127.0.0.1:0', '--smtp', '127.0.0.1:0'];
    const env = { ...rest, HOME: home, XDG_RUNTIME_DIR: join(home, 'none') };
    const child = spawn(process.execPath, [...FROM_SOURCES, ...args], { env, stdio: ['ignore', 'pipe', 'inherit'] });
    const line = await new Promise<string>((resolve) => child.stdout.once('data', (chunk) => resolve(String(chunk))));
    const [, imap] = /^ready imap=(127\.0\.0\.1:\d+) smtp=127\.0\.0\.1:\d+\n$/.exec(line) ?? [];
    const fetched = await runTool('curl', ['-sS', `imap://${imap}/`, '-u', 'a:b']);
    expect(fetched.stdout).toContain('INBOX');
    // The other commands know the host from the daemon.
    const ask = (...words: string[]) => run(process.execPath, [...FROM_SOURCES, ...words], { env });
    expect((await ask('setup', 'mutt')).stdout).toContain(`imap://postern@${imap}/`);
    expect(await ask('route', 'ann@example.org')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('via gate'),
    });
    child.kill('SIGTERM');
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(0);
  });
});

describe('every dialogue', () => {
  test.each(['auto', 'stream', 'pipelined', 'lockstep'])('%s delivers every message once', async (dialogue) => {
    const config = PLAIN.replace('host = "gate"\n[smtp]', 'host = "gate"\nspare = 0\n[smtp]');
    const place = await makePlace(gate, `${config}dialogue = "${dialogue}"\n`, dialogue);
    await using daemon = await up(place);
    const subjects = Array.from({ length: 12 }, (_, index) => `by-${dialogue}-${String(index).padStart(2, '0')}`);
    await Promise.all(subjects.map((subject) => send(daemon.smtp[0], { subject })));
    await queueEnds(place);
    for (const subject of subjects) await arrived(subject);
  });
});

describe('check tells each fault in one sentence, with its fix and exit status', () => {
  /** Runs `check gate --json` and gives the layer that failed. */
  async function failing(place: Place): Promise<{ code: number | null; layer: string; detail: string; fix: string }> {
    const ran = await postern(place, ['check', 'gate', '--json']);
    const [report] = JSON.parse(ran.stdout) as [
      { status: number; layers: { layer: string; ok: boolean; detail: string; fix: string }[] },
    ];
    expect(report.status).toBe(ran.code);
    const last = report.layers.at(-1);
    expect(report.layers.slice(0, -1).every(({ ok }) => ok)).toBe(true);
    return { code: ran.code, layer: last?.layer ?? '', detail: last?.detail ?? '', fix: last?.fix ?? '' };
  }

  test('all is well: 0', async () => {
    const ran = await postern(await makePlace(gate, PLAIN, 'well'), ['check', 'gate']);
    expect(ran, ran.stdout).toMatchObject({ code: 0, stderr: '' });
    for (const layer of [
      'DNS',
      'TCP',
      'key exchange',
      'host key',
      'authentication',
      'shell',
      'imapd',
      'PREAUTH',
      'INBOX',
      'SMTP',
    ]) {
      expect(ran.stdout).toMatch(new RegExp(`^  ok    ${layer} `, 'm'));
    }
  });

  test('unknown host key: 77, and the command that accepts it, which does', async () => {
    const known = join(gate.dir, 'known_none');
    await writeFile(known, '');
    const place = await makePlace(gate, `[host.gate]\nknown_hosts = ["${known}"]\n${PLAIN}`, 'unknown');
    const fault = await failing(place);
    expect(fault).toMatchObject({ code: 77, layer: 'hostkey' });
    expect(fault.detail).toContain('host key');
    expect(fault.detail).toContain(gate.ssh.fingerprint);
    expect(fault.fix).toContain('postern check --accept-new-host-key gate');
    const accepting = await postern(place, ['check', '--accept-new-host-key', 'gate']);
    expect(accepting, accepting.stdout).toMatchObject({ code: 0 });
    expect(await readFile(known, 'utf8')).toContain(gate.ssh.hostKey);
  });

  test('changed host key: 77, and --accept-new-host-key does not help', async () => {
    const known = join(gate.dir, 'known_other');
    const other = await makeKey(join(gate.dir, 'other_host_key'));
    await writeFile(known, `[127.0.0.1]:${gate.ssh.port} ${other.publicKey}\n`);
    const place = await makePlace(gate, `[host.gate]\nknown_hosts = ["${known}"]\n${PLAIN}`, 'changed');
    expect(await failing(place)).toMatchObject({ code: 77, layer: 'hostkey' });
    expect((await postern(place, ['check', '--accept-new-host-key', 'gate'])).code).toBe(77);
    expect(await readFile(known, 'utf8')).not.toContain(gate.ssh.hostKey);
  });

  test('revoked host key: 77, and nobody is told to accept it', async () => {
    const known = join(gate.dir, 'known_revoked');
    await writeFile(known, `@revoked * ${gate.ssh.hostKey}\n[127.0.0.1]:${gate.ssh.port} ${gate.ssh.hostKey}\n`);
    const place = await makePlace(gate, `[host.gate]\nknown_hosts = ["${known}"]\n${PLAIN}`, 'revoked');
    const fault = await failing(place);
    expect(fault).toMatchObject({ code: 77, layer: 'hostkey' });
    expect(fault.fix).not.toContain('accept');
  });

  test('wrong key: 77', async () => {
    const key = await makeKey(join(gate.dir, 'stranger'));
    const place = await makePlace(gate, `[host.gate]\nidentity = ["${key.path}"]\n${PLAIN}`, 'wrongkey');
    const fault = await failing(place);
    expect(fault).toMatchObject({ code: 77, layer: 'auth' });
    expect(fault.fix).not.toBe('');
  });

  test('no such name: 69', async () => {
    const place = await makePlace(gate, `[host.gate]\ndestination = "no-such-host.invalid"\n${PLAIN}`, 'noname');
    expect(await failing(place)).toMatchObject({ code: 69, layer: 'dns' });
  });

  test('nothing listens behind a jump host: 69, and it is the connection that fails', async () => {
    const toml = `[host.gate]\ndestination = "127.0.0.1:1"\njump = ["gate"]\n${PLAIN}`;
    expect(await failing(await makePlace(gate, toml, 'behind'))).toMatchObject({ code: 69, layer: 'tcp' });
  });

  test('nothing listens: 69', async () => {
    const place = await makePlace(gate, `[host.gate]\ndestination = "gate@127.0.0.1:1"\n${PLAIN}`, 'closed');
    expect(await failing(place)).toMatchObject({ code: 69, layer: 'tcp' });
  });

  test.each([
    ['no imapd', 'no-such-imapd', 'imapd'],
    ['an imapd that wants a login', 'echo "* OK ready"; cat >/dev/null', 'preauth'],
    ['an imapd that says BYE', 'echo "* BYE not today"', 'preauth'],
    ['something that is no imapd', 'echo SSH-2.0-dropbear; exit 3', 'preauth'],
  ])('%s: 69', async (_name, command, layer) => {
    const place = await makePlace(gate, `[host.gate]\nimapd = ${JSON.stringify(command)}\n${PLAIN}`, 'noimapd');
    const fault = await failing(place);
    expect(fault).toMatchObject({ code: 69, layer });
    expect(fault.detail).not.toContain('\n');
    expect(fault.fix).toContain('imapd');
  });

  test('the key exchange is named, and whether it is post-quantum', async () => {
    const ran = await postern(await makePlace(gate, PLAIN, 'kex'), ['check', 'gate', '--json']);
    const [report] = JSON.parse(ran.stdout) as [{ layers: { layer: string; detail: string }[] }];
    const { detail } = report.layers.find(({ layer }) => layer === 'kex') ?? {};
    expect(detail).toMatch(/^(mlkem768x25519-sha256, post-quantum|curve25519-sha256, not post-quantum)$/);
  });

  // As Debian's own Dovecot 2.4 configuration does where /var/mail cannot be written: PREAUTH, and no SELECT.
  test.each([
    [
      'is refused',
      'while read -r tag rest; do printf \'%s NO [SERVERBUG] Internal error\\r\\n\' "$tag"; done',
      'NO [SERVERBUG] Internal error',
    ],
    [
      'ends the session',
      "read -r tag rest; printf '* CAPABILITY IMAP4rev1\\r\\n%s OK done\\r\\n' \"$tag\"; read -r line; echo 'Fatal: no home' >&2",
      'Fatal: no home',
    ],
  ])("an INBOX that %s: 69, with the far side's words and the settings to look at", async (_name, script, words) => {
    const imapd = `printf '* PREAUTH [CAPABILITY IMAP4rev1] hi\\r\\n'; ${script}`;
    await gate.command('half-imapd', imapd);
    const place = await makePlace(gate, `[host.gate]\nimapd = "half-imapd"\n${PLAIN}`, 'noinbox');
    const fault = await failing(place);
    expect(fault).toMatchObject({ code: 69, layer: 'inbox' });
    expect(fault.detail).toContain(words);
    expect(fault.fix).toMatch(/mail_path.*mail_location/);
  });

  test.each([
    ['a refused SMTP connection', 'netcat localhost 1'],
    ['a greeting that refuses', 'echo 554 go away'],
    ['a missing command', 'no-such-netcat localhost smtp'],
  ])('%s: 69', async (_name, command) => {
    const place = await makePlace(gate, `[host.gate]\nsmtp = ${JSON.stringify(command)}\n${PLAIN}`, 'nosmtp');
    expect(await failing(place)).toMatchObject({ code: 69, layer: 'smtp' });
  });

  test('options of nc that lose replies are warned of', async () => {
    const place = await makePlace(gate, `[host.gate]\nsmtp = "nc -w 1 localhost smtp"\n${PLAIN}`, 'ncw');
    const ran = await postern(place, ['check', 'gate']);
    expect(ran.code).toBe(0);
    expect(ran.stdout).toMatch(/warning: .*-w 1/);
  });
});

describe('up ends for its own faults alone, in one sentence', () => {
  test('bad configuration: 78, with file, line and key', async () => {
    const place = await makePlace(gate, `${PLAIN}\n[access]\nallow = ["evryone"]\n`, 'badconfig');
    const ran = await postern(place, ['up', 'gate']);
    expect(ran.code).toBe(78);
    expectOneSentence(ran, /config\.toml:\d+: access\.allow\[0\]: .*accepted: "same-user"/);
    expect(ran.stdout).toBe('');
  });

  test('an address that is taken: 69', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as { port: number };
    const place = await makePlace(gate, PLAIN, 'taken');
    const ran = await postern(place, ['up', 'gate', '--imap', `127.0.0.1:${port}`]);
    other.close();
    expect(ran.code).toBe(69);
    expectOneSentence(ran, new RegExp(`127\\.0\\.0\\.1:${port} is taken`));
    expect(ran.stdout).toBe('');
  });

  test('a second owner of the state directory: 69, and the first goes on', async () => {
    const place = await makePlace(gate, PLAIN, 'second');
    await using daemon = await up(place);
    const ran = await postern(place, ['up', 'gate']);
    expect(ran.code).toBe(69);
    expectOneSentence(ran, /in use by process/);
    await send(daemon.smtp[0], { subject: 'still-the-first' });
    await arrived('still-the-first');
  });
});

describe('up stays up, and no mail is lost', () => {
  test('the host is down: it listens, takes mail, and delivers when the host returns', async () => {
    const place = await makePlace(gate, PLAIN, 'down');
    await gate.ssh.stop();
    await using daemon = await up(place);
    await send(daemon.smtp[0], { subject: 'while-down' });
    expect(await queue(place)).toMatchObject([
      { state: 'queued', next: null, reason: expect.stringContaining('refuses'), recipients: [{ outcome: null }] },
    ]);
    const login = await runTool('curl', ['-sS', '-v', `imap://${daemon.imap[0]}/`, '-u', 'a:b']);
    expect(login.stderr).toContain('BYE [UNAVAILABLE]');
    await gate.ssh.start();
    expect((await postern(place, ['queue', 'flush'])).code).toBe(0);
    await arrived('while-down');
    await queueEnds(place);
  });

  test.each([
    ['unknown host key', 'known_hosts', /host key/],
    ['wrong key', 'identity', /auth|key/i],
  ])('%s: mail waits with the reason, nothing bounces, and it leaves after the repair', async (name, key, reason) => {
    const file = join(gate.dir, `repaired-${key}`);
    const good = key === 'identity' ? gate.client.identityFile : gate.client.knownHostsFile;
    if (key === 'identity') await makeKey(file);
    else await writeFile(file, '');
    const place = await makePlace(gate, `[host.gate]\n${key} = ["${file}"]\n${PLAIN}`, `repair-${key}`);
    await using daemon = await up(place);
    await send(daemon.smtp[0], { subject: `waits-${key}` });
    await daemon.logged(/link down/);
    const status = await postern(place, ['status', '--json']);
    expect(JSON.parse(status.stdout).hosts[0], name).toMatchObject({
      state: 'down',
      error: expect.stringMatching(reason),
    });
    expect(await queue(place)).toHaveLength(1);
    await copyFile(good, file);
    expect((await postern(place, ['queue', 'flush', 'gate'])).code).toBe(0);
    await arrived(`waits-${key}`);
    await queueEnds(place);
  });

  test('kill -9 between 250 and delivery: the next start finds the message', async () => {
    const place = await makePlace(gate, PLAIN, 'killed');
    await gate.ssh.stop();
    const first = await up(place);
    await send(first.smtp[0], { subject: 'survives-kill' });
    await first.stop('SIGKILL');
    expect(await queue(place)).toHaveLength(1);
    await gate.ssh.start();
    await using _second = await up(place);
    await arrived('survives-kill');
    await queueEnds(place);
  });

  test('held mail stays until it is released, removed mail is forgotten, with and without a daemon', async () => {
    const place = await makePlace(gate, PLAIN, 'hold');
    await gate.ssh.stop();
    const first = await up(place);
    await send(first.smtp[0], { subject: 'held-one' });
    await send(first.smtp[0], { subject: 'removed-one' });
    const [one, two] = (await queue(place)) as unknown as { id: string }[];
    expect((await postern(place, ['queue', 'hold', one?.id ?? ''])).code).toBe(0);
    expect((await postern(place, ['queue', 'remove', two?.id ?? ''])).code).toBe(0);
    expect(await first.stop()).toBe(0);
    expect(await queue(place)).toMatchObject([{ id: one?.id, state: 'held' }]);
    expect((await postern(place, ['queue', 'release', one?.id ?? ''])).code).toBe(0);
    expect((await postern(place, ['queue', 'show', two?.id ?? ''])).code).toBe(66);
    await gate.ssh.start();
    await using _second = await up(place);
    await arrived('held-one');
    await queueEnds(place);
  });
});
