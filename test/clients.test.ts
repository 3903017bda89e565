import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Gate, readMaildir, type SeedMessage, seedMaildir } from '@postern/gate';
import { fetchTool, mbsyncTlsKeyword, startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hostPort, makePlace, PLAIN, postern, run, type Up, up } from './support/postern.ts';

/** Real mail programs through one `postern up gate`: real sshd, Dovecot and Exim behind it. */
const COUNT = 200;
let gate: Gate;
let daemon: Up;
let place: Awaited<ReturnType<typeof makePlace>>;
let messages: SeedMessage[];
let home: string;

beforeAll(async () => {
  gate = await startRig();
  messages = await seedMaildir(gate.maildir, { count: COUNT, account: gate.account });
  place = await makePlace(gate, PLAIN);
  daemon = await up(place);
  home = join(gate.dir, 'reader');
  await mkdir(home);
});

afterAll(async () => {
  await daemon?.stop();
  await gate?.stop();
});

/** Runs a client with a home of its own. */
async function client(name: string, args: readonly string[], o: { input?: string | Buffer; tty?: boolean } = {}) {
  const tool = await fetchTool(name);
  const env = {
    ...process.env,
    ...tool.env,
    HOME: home,
    TERM: 'xterm',
    POSTERN_IMAP: daemon.imap[0],
    POSTERN_SMTP: daemon.smtp[0],
  };
  if (o.tty !== true)
    return run(tool.command, [...tool.args, ...args], {
      env,
      cwd: home,
      ...(o.input === undefined ? {} : { input: o.input }),
    });
  // script(1) gives it a terminal, and stty its size: ncurses 6.6 (forky) refuses one of 0 by 0, whatever LINES and COLUMNS say.
  const line = [tool.command, ...tool.args, ...args].map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
  return run('script', ['-qec', `stty cols 120 rows 40; exec ${line}`, '/dev/null'], { env, cwd: home });
}

const lf = (bytes: Buffer): string => bytes.toString('latin1').replaceAll('\r\n', '\n');

describe('reading', () => {
  const imap = (): { host: string; port: number } => hostPort(daemon.imap[0]);

  test('mbsync pulls 200 messages, each byte for byte what lies in the far Maildir', async () => {
    const { host, port } = imap();
    await mkdir(join(home, 'mail'));
    await writeFile(
      join(home, '.mbsyncrc'),
      `IMAPAccount gate
Host ${host}
Port ${port}
User reader
Pass same-user
${await mbsyncTlsKeyword()} None
AuthMechs PLAIN

IMAPStore far
Account gate

MaildirStore near
Path ${home}/mail/
Inbox ${home}/mail/INBOX

Channel all
Far :far:
Near :near:
Patterns INBOX
Create Near
SyncState *
`,
    );
    const ran = await client('mbsync', ['-c', join(home, '.mbsyncrc'), 'all']);
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    const pulled: string[] = [];
    for (const dir of ['cur', 'new']) {
      for (const name of await readdir(join(home, 'mail/INBOX', dir))) {
        const text = (await readFile(join(home, 'mail/INBOX', dir, name))).toString('latin1');
        // isync 1.4 marks what it stores with a header line of its own.
        pulled.push(text.replace(/^X-TUID: \S+\n/m, ''));
      }
    }
    expect(pulled.sort()).toEqual(messages.map((message) => lf(message.bytes)).sort());
  });

  test('curl fetches one message, byte for byte', async () => {
    const ran = await client('curl', ['-sS', `imap://${daemon.imap[0]}/INBOX;MAILINDEX=7`, '-u', 'reader:same-user']);
    expect(ran.stderr).toBe('');
    expect(ran.stdout).toBe(messages[6]?.bytes.toString('utf8'));
  });

  test('mutt lists the mailbox and reads a message', async () => {
    const newest = messages.at(-1);
    const keys = `<last-entry><pipe-message>cat > ${home}/read<enter><exit>`;
    const rc = join(import.meta.dirname, '../examples/mutt/muttrc');
    const ran = await client(
      'mutt',
      ['-F', rc, '-R', '-e', 'set pipe_decode=no wait_key=no confirmappend=no', '-e', `push "${keys}"`],
      {
        tty: true,
      },
    );
    expect(ran.code, ran.stdout).toBe(0);
    expect(ran.stdout).toContain(`Msgs:${COUNT}`);
    expect((await readFile(join(home, 'read'))).toString('latin1')).toBe(lf(newest?.bytes ?? Buffer.alloc(0)));
  });
});

describe('sending', () => {
  /** The message that holds `mark`, once it is there. */
  async function arrived(mark: string): Promise<string> {
    await expect
      .poll(async () => (await readMaildir(gate.maildir)).filter((bytes) => bytes.includes(mark)).length, {
        timeout: 60_000,
      })
      .toBe(1);
    const found = (await readMaildir(gate.maildir)).find((bytes) => bytes.includes(mark));
    return found?.toString('latin1') ?? '';
  }

  test('swaks gets its 250 and the message arrives', async () => {
    const { host, port } = hostPort(daemon.smtp[0]);
    const ran = await client('swaks', [
      ...['--server', host, '--port', String(port), '--from', 'ada@brook.test', '--to', 'gate@gate.test'],
      ...['--header', 'Subject: from swaks', '--body', 'mark-swaks'],
    ]);
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    expect(await arrived('mark-swaks')).toContain('Subject: from swaks');
  });

  test('msmtp hands over a message', async () => {
    const { host, port } = hostPort(daemon.smtp[0]);
    const ran = await client(
      'msmtp',
      [
        '--host',
        host,
        '--port',
        String(port),
        '--tls=off',
        '--auth=off',
        '--file=/dev/null',
        '-f',
        'ada@brook.test',
        'gate@gate.test',
      ],
      { input: 'From: ada@brook.test\nTo: gate@gate.test\nSubject: from msmtp\n\nmark-msmtp\n' },
    );
    expect(ran.code, ran.stderr).toBe(0);
    expect(await arrived('mark-msmtp')).toContain('Subject: from msmtp');
  });

  test('curl sends 8-bit text, leading dots and no final newline unharmed', async () => {
    const body = '.\r\n..two\r\nGrüße \r\nmark-curl without an end';
    const file = join(home, 'letter');
    await writeFile(file, `From: ada@brook.test\r\nTo: gate@gate.test\r\nSubject: bytes\r\n\r\n${body}`);
    const ran = await client('curl', [
      ...[
        '-sS',
        `smtp://${daemon.smtp[0]}`,
        '--mail-from',
        'ada@brook.test',
        '--mail-rcpt',
        'gate@gate.test',
        '-T',
        file,
      ],
    ]);
    expect(ran.stderr).toBe('');
    const got = await arrived('mark-curl');
    expect(got.slice(got.indexOf('\n\n') + 2).replace(/\n$/, '')).toBe(
      Buffer.from(body.replaceAll('\r\n', '\n')).toString('latin1'),
    );
  });

  test('and the queue is empty in the end', async () => {
    await expect
      .poll(async () => (await postern(place, ['queue', 'list', '--json'])).stdout.trim(), { timeout: 60_000 })
      .toBe('[]');
  });
});
