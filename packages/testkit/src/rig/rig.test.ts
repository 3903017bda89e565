import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { type Gate, readMaildir, run, type SmtpServer, seedMaildir } from '@postern/gate';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  canUnshare,
  fetchTool,
  type LoginServer,
  mbsyncTlsKeyword,
  startDovecot,
  startOpensmtpd,
  startPostfix,
  startRig,
  type Tool,
} from './index.ts';

/** Cached programs only: as on a machine with nothing installed. */
const CACHED = { prefer: 'cache' } as const;

let gate: Gate;
beforeAll(async () => {
  gate = await startRig({ ...CACHED, smtp: false });
});
afterAll(() => gate?.stop());

/** Sends each line once the reply to the one before has come; gives all replies. */
async function dialogue(port: number, lines: readonly string[]): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  let text = await reply(socket);
  for (const line of lines) {
    socket.write(`${line}\r\n`);
    text += await reply(socket);
  }
  socket.destroy();
  return text;
}

function reply(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const onData = (chunk: Buffer): void => {
      text += chunk.toString('latin1');
      if (!/^(\d{3} |\w+ (OK|NO|BAD)|\* (OK|BYE)).*\r\n$/m.test(text)) return;
      socket.off('data', onData);
      resolve(text);
    };
    socket.on('data', onData);
    socket.once('error', reject);
    socket.once('close', () => reject(new Error(`closed after ${text}`)));
  });
}

describe('Postfix in the rig', () => {
  let postfix: SmtpServer;
  beforeAll(async () => {
    postfix = await startPostfix(gate, {
      ...CACHED,
      domains: ['gate.test', 'home.test'],
      refuse: { refused: '5.1.1 nobody here by that name' },
      defer: { 'later@gate.test': '4.2.1 come back' },
    });
  });

  test('answers each recipient as told and delivers into the Maildir', async () => {
    const { stdout } = await run('sh', [
      '-c',
      `ssh -F ${gate.client.configFile} gate netcat -z localhost smtp && echo reached`,
    ]);
    expect(stdout).toBe('reached\n');
    const replies = await dialogue(postfix.port, [
      'EHLO client.test',
      'MAIL FROM:<ada@brook.test>',
      'RCPT TO:<refused@home.test>',
      'RCPT TO:<later@gate.test>',
      'RCPT TO:<someone@elsewhere.test>',
      'RCPT TO:<gate@home.test>',
      'DATA',
      'Subject: by Postfix\r\n\r\nHello.\r\n.',
    ]);
    expect(replies).toMatch(/^550 5\.1\.1 .*nobody here/m);
    expect(replies).toMatch(/^451 4\.2\.1 .*come back/m);
    expect(replies).toMatch(/^554 5\.7\.1 .*Relay access denied/m);
    expect(replies).toMatch(/CHUNKING/);
    expect(replies).toMatch(/250 2\.0\.0 Ok: queued as/);
    await arrived('Subject: by Postfix');
    expect(await postfix.log()).toContain('status=sent (delivered to maildir)');
  });

  test('takes mail from its sendmail and keeps its port over a restart', async () => {
    const bs = await run('sh', ['-c', `echo QUIT | ssh -F ${gate.client.configFile} gate sendmail -bs`]);
    expect(bs.stdout).toMatch(/^220 gate\.test ESMTP Postfix/);
    const { port } = postfix;
    await postfix.stop();
    await expect(dialogue(port, [])).rejects.toThrow();
    await postfix.start();
    expect(postfix.port).toBe(port);
    expect(await dialogue(port, ['QUIT'])).toMatch(/^221 /m);
  });
});

const CAN_OPENSMTPD = process.getuid?.() === 0 && (await canUnshare());
describe.skipIf(!CAN_OPENSMTPD)('OpenSMTPD in the rig (as root)', () => {
  test('takes a message for anybody and keeps it in a queue that outlives a restart', async () => {
    await using own = await startRig({ ...CACHED, smtp: false, imapd: false });
    const probe = await mkdtemp(join(own.dir, 'probe-'));
    const synchronous = (await run('/usr/bin/env', ['chattr', '+SD', probe])).code === 0;
    const server = await startOpensmtpd(own, { synchronous });
    const replies = await dialogue(server.port, [
      'EHLO client.test',
      'MAIL FROM:<ada@brook.test>',
      'RCPT TO:<anybody@elsewhere.test>',
      'DATA',
      'Subject: by OpenSMTPD\r\n\r\nHello.\r\n.',
    ]);
    expect(replies).toMatch(/^220 gate\.test ESMTP OpenSMTPD/);
    expect(replies).toMatch(/^250 2\.0\.0 .*Message accepted for delivery/m);
    await server.stop();
    await expect(dialogue(server.port, [])).rejects.toThrow();
    await server.start();
    expect(await dialogue(server.port, ['QUIT'])).toMatch(/^221 /m);
    const kept = await readdir(join(server.spool, 'queue'), { recursive: true });
    const [message = ''] = kept.filter((path) => path.endsWith('/message'));
    expect(await readFile(join(server.spool, 'queue', message), 'utf8')).toContain('Subject: by OpenSMTPD');
    if (!synchronous) return;
    expect((await run('lsattr', [join(server.spool, 'queue', message)])).stdout).toMatch(/^--S/);
  });
});

describe('Dovecot with a login', () => {
  let dovecot: LoginServer;
  let curl: Tool;
  beforeAll(async () => {
    dovecot = await startDovecot(gate, CACHED);
    curl = await fetchTool('curl');
  });

  test('takes the password, refuses another, and reads the same Maildir as imapd', async () => {
    const [message] = await seedMaildir(gate.maildir, { count: 1, seed: 9, account: gate.account });
    const good = await dialogue(dovecot.port, [`a LOGIN gate "${dovecot.password}"`, 'b SELECT INBOX']);
    expect(good).toMatch(/^a OK \[CAPABILITY .*COMPRESS=DEFLATE/m);
    expect(await dialogue(dovecot.port, ['a LOGIN gate wrong'])).toMatch(/^a NO /m);
    const url = `imap://127.0.0.1:${dovecot.port}/INBOX;MAILINDEX=1`;
    const seen = await run(curl.command, [...curl.args, '-s', '-u', `gate:${dovecot.password}`, url], {
      env: { ...process.env, ...curl.env },
    });
    expect(seen.stdout).toBe(message?.bytes.toString());
  });

  test('is seen by mbsync, which takes the whole folder home', async () => {
    const mbsync = await fetchTool('mbsync', CACHED);
    await seedMaildir(gate.maildir, { count: 5, seed: 10, account: gate.account });
    const dir = join(gate.dir, 'mbsync');
    const config = join(gate.dir, 'mbsyncrc');
    const there = (await readMaildir(gate.maildir)).length;
    await run('mkdir', ['-p', dir]);
    await writeFile(config, await mbsyncrc(dovecot, dir));
    const synced = await run(mbsync.command, [...mbsync.args, '-c', config, '-a'], {
      env: { PATH: process.env.PATH, HOME: gate.dir, ...mbsync.env },
    });
    expect(synced.code, synced.stderr).toBe(0);
    expect(await readMaildir(join(dir, 'INBOX'))).toHaveLength(there);
  });
});

describe('fetched tools', () => {
  test.each([
    ['mutt', ['-v'], /^Mutt 2/],
    ['mbsync', ['--version'], /^isync/],
    ['curl', ['--version'], /^curl/],
    ['swaks', ['--version'], /^swaks version/],
    ['msmtp', ['--version'], /^msmtp version/],
  ])('%s starts from the cache', async (name, args, expected) => {
    const tool = await fetchTool(name, CACHED);
    expect(tool.command).toContain('/postern/debs/');
    const shown = await run(tool.command, [...tool.args, ...args], {
      env: { PATH: process.env.PATH, HOME: gate.dir, ...tool.env },
    });
    expect(shown.stdout, shown.stderr).toMatch(expected);
  });

  test('swaks delivers through the rig', async () => {
    const port = await smtpPort();
    const swaks = await fetchTool('swaks', CACHED);
    const sent = await run(
      swaks.command,
      [
        ...swaks.args,
        '-s',
        `127.0.0.1:${port}`,
        '-t',
        'gate@gate.test',
        '-f',
        'a@b.test',
        '-h',
        'me.test',
        '--h-Subject',
        'by swaks',
      ],
      { env: { PATH: process.env.PATH, ...swaks.env } },
    );
    expect(sent.code, sent.stdout + sent.stderr).toBe(0);
    await arrived('Subject: by swaks');
  });

  test('a name that is no tool is refused', async () => {
    await expect(fetchTool('constructor')).rejects.toThrow(RangeError);
  });
});

async function smtpPort(): Promise<number> {
  const text = await readFile(join(gate.dir, 'postfix', 'conf', 'master.cf'), 'utf8');
  return Number(/127\.0\.0\.1:(\d+) inet/.exec(text)?.[1]);
}

/** Waits for a delivery by asking imapd until it shows: each ask is a whole session, so nothing spins. */
async function arrived(header: string): Promise<void> {
  for (;;) {
    const all = await readMaildir(gate.maildir);
    if (all.some((bytes) => bytes.includes(header))) return;
    await run('ssh', ['-F', gate.client.configFile, 'gate', 'true']);
  }
}

async function mbsyncrc(dovecot: LoginServer, dir: string): Promise<string> {
  return `IMAPAccount rig
Host 127.0.0.1
Port ${dovecot.port}
User gate
Pass "${dovecot.password}"
${await mbsyncTlsKeyword()} None
AuthMechs LOGIN PLAIN

IMAPStore far
Account rig

MaildirStore near
Path ${dir}/
Inbox ${dir}/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns INBOX
Create Near
SyncState *
`;
}
