import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { sendmailWords } from './call.ts';

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'postern-sendmail-'));
const state = join(root, 'state', 'postern');
afterAll(() => rmSync(root, { recursive: true, force: true }));
beforeEach(() => {
  rmSync(state, { recursive: true, force: true });
  rmSync(join(root, 'config'), { recursive: true, force: true });
  mkdirSync(join(root, 'run'), { recursive: true, mode: 0o700 });
});

interface Ran {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs the command as a process, with its own home and no daemon. */
function run(argv: readonly string[], input: string | Buffer, script = MAIN): Promise<Ran> {
  const env = {
    PATH: process.env.PATH,
    HOME: root,
    XDG_STATE_HOME: join(root, 'state'),
    XDG_CONFIG_HOME: join(root, 'config'),
    XDG_RUNTIME_DIR: join(root, 'run'),
  };
  const child = spawn(process.execPath, ['--conditions=@postern/source', '--import', 'tsx', script, ...argv], { env });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk) => {
    out += chunk;
  });
  child.stderr.on('data', (chunk) => {
    err += chunk;
  });
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  return new Promise((resolve) => child.once('close', (status) => resolve({ status, out, err })));
}

function spooled(): string[] {
  const queue = join(state, 'spool', 'queue');
  if (!existsSync(queue)) return [];
  return readdirSync(queue).map((name) => readFileSync(join(queue, name), 'latin1'));
}

function configure(text: string): void {
  mkdirSync(join(root, 'config', 'postern'), { recursive: true });
  writeFileSync(join(root, 'config', 'postern', 'config.toml'), text);
}

describe('which calls are for sendmail', () => {
  test.each([
    ['/usr/sbin/sendmail', ['-t'], 'sendmail', ['-t']],
    ['/usr/bin/mailq', [], 'mailq', []],
    ['newaliases', [], 'newaliases', []],
    ['postern.js', ['sendmail', '-t'], 'sendmail', ['-t']],
    [
      'postern',
      ['--json', '--config', 'sendmail', 'sendmail', '-bp'],
      'sendmail',
      ['--json', '--config', 'sendmail', '-bp'],
    ],
  ])('%s %j', (program, argv, name, words) => {
    expect(sendmailWords(program, argv)).toEqual({ name, words });
  });

  test.each([
    ['postern', ['queue']],
    ['postern', ['up', 'sendmail']],
    ['postern', ['--config', 'sendmail', 'up']],
    ['postern', []],
  ])('%s %j is not', (program, argv) => {
    expect(sendmailWords(program, argv)).toBeUndefined();
  });
});

describe('postern sendmail with no daemon', () => {
  test('spools a message of cron, silently, and mailq lists it', async () => {
    expect(
      await run(['sendmail', '-i', '-FCronDaemon', '-B8BITMIME', '-oem', 'root'], 'Subject: Cron\n\nout\n.\nput\n'),
    ).toEqual({ status: 0, out: '', err: '' });
    const [entry] = spooled();
    expect(entry).toMatch(/From: "?CronDaemon"?\r\n <[^>]+>\r\n/);
    expect(entry).toMatch(/Subject: Cron\r\n\r\nout\r\n\.\r\nput\r\n$/);
    const listed = await run(['sendmail', '-bp'], '');
    expect(listed.out).toMatch(/-Queue ID-.*\n[0-9a-v]{15} .*\n +root@.*\n\n-- 1 Kbytes in 1 Request\.\n$/s);
  });

  test('takes ten writers at once', async () => {
    const all = await Promise.all(
      Array.from({ length: 10 }, (_, n) => run(['sendmail', '-t'], `To: a${n}@x.example\n\n${n}\n`)),
    );
    expect(all.map(({ status }) => status)).toEqual(Array(10).fill(0));
    expect(spooled()).toHaveLength(10);
  });

  test('speaks SMTP on its standard streams', async () => {
    const session = 'EHLO me\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x.example>\r\nDATA\r\nSubject: bs\r\n\r\nhi\r\n.\r\n';
    const { status, out } = await run(['sendmail', '-bs'], session);
    expect(status).toBe(0);
    expect(
      out
        .replaceAll(/^250-.*\r\n/gm, '')
        .split('\r\n')
        .map((line) => line.slice(0, 3)),
    ).toEqual(['220', '250', '250', '250', '354', '250', '']);
    expect(spooled()).toHaveLength(1);
  });

  test('takes over its standard streams what the configuration takes at a port', async () => {
    configure('[smtp]\nmax_size = "64KiB"\n');
    const { out } = await run(['sendmail', '-bs'], 'EHLO me\r\nMAIL FROM:<a@x> SIZE=65537\r\nQUIT\r\n');
    expect(out).toMatch(/SIZE 65536\r\n552 5\.3\.4 /);
  });

  test('a session cut off in its text leaves nothing', async () => {
    const { status } = await run(
      ['sendmail', '-bs'],
      'EHLO me\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x.example>\r\nDATA\r\nSubject: cut\r\n\r\nhi\r\n',
    );
    expect(status).toBe(0);
    expect(spooled()).toEqual([]);
  });

  test('refuses what cannot be sent with 65, what no route takes with 68, and a wrong call with 64', async () => {
    configure('[[route]]\nmatch = ["x.example"]\nhost = "gate"\n');
    expect(await run(['sendmail', 'a@b@x.example'], 'x\n')).toMatchObject({
      status: 65,
      err: expect.stringContaining('a@b@x.example'),
    });
    expect(await run(['sendmail', 'a@x.example', 'b@y.example'], '\n')).toMatchObject({
      status: 68,
      err: expect.stringMatching(/^sendmail: b@y\.example: no route takes it; nothing was sent\n/),
    });
    expect(await run(['sendmail', '--json', '-Z'], '')).toMatchObject({
      status: 64,
      err: expect.stringContaining('"code":"usage"'),
    });
    expect(spooled()).toEqual([]);
    expect((await run(['sendmail', 'a@x.example'], '\n')).status).toBe(0);
  });

  test('tells with 69 that there is nobody to flush, and with 78 that the configuration is wrong', async () => {
    expect(await run(['sendmail', '-q'], '')).toMatchObject({
      status: 69,
      err: expect.stringContaining('no postern is running'),
    });
    configure('nonsense = 1\n');
    expect((await run(['sendmail', 'a@x.example'], '\n')).status).toBe(78);
  });

  test('tells with 74 that the spool cannot be used', async () => {
    mkdirSync(state, { recursive: true });
    writeFileSync(join(state, 'spool'), 'no directory');
    expect(await run(['sendmail', 'a@x.example'], '\n')).toMatchObject({
      status: 74,
      err: expect.stringContaining(`the spool ${join(state, 'spool')} cannot be used`),
    });
  });

  test('answers to the names mailq and newaliases', async () => {
    for (const name of ['mailq', 'newaliases']) symlinkSync(MAIN, join(root, name));
    expect(await run([], '', join(root, 'mailq'))).toEqual({ status: 0, out: 'Mail queue is empty\n', err: '' });
    expect(await run([], '', join(root, 'newaliases'))).toEqual({ status: 0, out: '', err: '' });
  });
});

describe('a message that is not taken', () => {
  const letter = join(root, 'dead.letter');
  const broken = 'routes = 7\n';
  beforeEach(() => rmSync(letter, { force: true }));
  const said = ({ err }: Ran): string => err.trimEnd().split('\n').at(-1) ?? '';

  test('is appended to dead.letter, which nobody else can read, and its place is told', async () => {
    configure(broken);
    const first = await run(
      ['sendmail', '-f', 'me@x.example', 'a@x.example'],
      'Subject: one\n\nFrom here\n>From there\nend',
    );
    expect([first.status, said(first)]).toEqual([78, `sendmail: the message was kept in ${letter}`]);
    await run(['sendmail', 'a@x.example'], 'Subject: two\n\nx\n');
    const text = readFileSync(letter, 'latin1');
    expect(text).toMatch(
      /^From me@x\.example \w{3} \w{3} \d\d \d\d:\d\d:\d\d \d{4}\nSubject: one\n\n>From here\n>>From there\nend\n\nFrom /,
    );
    expect(text.endsWith('Subject: two\n\nx\n\n')).toBe(true);
    expect(statSync(letter).mode & 0o777).toBe(0o600);
    expect(spooled()).toEqual([]);
  });

  test('is kept whole when it was refused before its end was read', async () => {
    const text = `To: nobody here\n\n${'x'.repeat(70)}\n`.padEnd(300_000, 'line\n');
    const ran = await run(['sendmail', '-t'], text);
    expect(ran.status).toBe(65);
    expect(readFileSync(letter, 'latin1')).toContain(text);
  });

  test('is told in --json', async () => {
    configure(broken);
    const ran = await run(['sendmail', '--json', 'a@x.example'], 'x\n');
    expect(JSON.parse(ran.err)).toMatchObject({ status: 78, deadLetter: letter });
  });

  test('never goes through a link, and that is said', async () => {
    configure(broken);
    const other = join(root, 'other');
    writeFileSync(other, 'mine\n');
    symlinkSync(other, letter);
    const ran = await run(['sendmail', 'a@x.example'], 'x\n');
    expect([ran.status, said(ran)]).toEqual([78, expect.stringMatching(/could not be kept in dead\.letter/)]);
    expect(readFileSync(other, 'utf8')).toBe('mine\n');
  });

  test('leaves nothing behind when it was taken, or there was none', async () => {
    expect((await run(['sendmail', 'a@x.example'], 'x\n')).status).toBe(0);
    configure(broken);
    expect((await run(['sendmail', 'a@x.example'], '')).status).toBe(78);
    expect(existsSync(letter)).toBe(false);
  });
});
