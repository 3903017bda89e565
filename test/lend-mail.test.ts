import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Gate, type SeedMessage, seedMaildir } from '@postern/gate';
import { fetchTool, startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makePrograms, type Programs } from './support/lend.ts';
import { makePlace, PLAIN, type Ran, run, type Up, up } from './support/postern.ts';

/** Mail readers that take a program instead of a port, with `postern pipe gate imap`: no port, no login, no password. */
const COUNT = 12;
let gate: Gate;
let daemon: Up;
let lent: Programs;
let home: string;
let messages: SeedMessage[];
let tunnel: string;

beforeAll(async () => {
  gate = await startRig({ smtp: false });
  messages = await seedMaildir(gate.maildir, { count: COUNT, account: gate.account });
  const place = await makePlace(gate, PLAIN);
  lent = await makePrograms(place);
  daemon = await up(place);
  home = join(gate.dir, 'reader');
  await mkdir(home);
  tunnel = `${lent.postern} pipe gate imap`;
});

afterAll(async () => {
  await daemon?.stop();
  await gate?.stop();
});

/** Runs a client in a home of its own. */
async function client(name: string, args: readonly string[], o: { tty?: boolean } = {}): Promise<Ran> {
  const tool = await fetchTool(name);
  const env = { ...process.env, ...tool.env, HOME: home, TERM: 'xterm' };
  const words = [tool.command, ...tool.args, ...args];
  if (o.tty !== true) return run(words[0] as string, words.slice(1), { env, cwd: home });
  // script(1) gives it a terminal, and stty its size: ncurses 6.6 (forky) refuses one of 0 by 0, whatever LINES and COLUMNS say.
  const line = words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
  return run('script', ['-qec', `stty cols 120 rows 40; exec ${line}`, '/dev/null'], { env, cwd: home });
}

const lf = (bytes: Buffer): string => bytes.toString('latin1').replaceAll('\r\n', '\n');
const sent = (): string[] => messages.map(({ bytes }) => lf(bytes)).sort();

/** The messages of a Maildir of the client's. */
async function held(maildir: string): Promise<string[]> {
  const found: string[] = [];
  for (const dir of ['new', 'cur']) {
    for (const name of await readdir(join(maildir, dir))) found.push(lf(await readFile(join(maildir, dir, name))));
  }
  return found;
}

test('mbsync with Tunnel pulls every message unchanged', async () => {
  await mkdir(join(home, 'isync'));
  await writeFile(
    join(home, 'mbsyncrc'),
    `IMAPAccount gate
Tunnel "${tunnel}"

IMAPStore far
Account gate

MaildirStore near
Path ${home}/isync/
Inbox ${home}/isync/inbox

Channel all
Far :far:
Near :near:
Create Near
SyncState *
`,
  );
  const ran = await client('mbsync', ['-c', join(home, 'mbsyncrc'), '-a']);
  expect(ran.code, ran.stderr).toBe(0);
  // mbsync marks what it stores with a header of its own.
  const stored = (await held(join(home, 'isync/inbox'))).map((text) => text.replace(/^X-TUID: .*\n/m, ''));
  expect(stored.sort()).toEqual(sent());
});

test('offlineimap with preauthtunnel pulls every message', async () => {
  await writeFile(
    join(home, 'offlineimaprc'),
    `[general]
accounts = gate
metadata = ${home}/offlineimap
ui = basic
[Account gate]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = ${home}/offline
[Repository far]
type = IMAP
preauthtunnel = ${tunnel}
`,
  );
  const ran = await client('offlineimap', ['-c', join(home, 'offlineimaprc'), '-o']);
  expect(ran.code, ran.stdout + ran.stderr).toBe(0);
  expect(await held(join(home, 'offline/INBOX'))).toHaveLength(COUNT);
});

test('fetchmail with plugin fetches every message', async () => {
  await writeFile(
    join(home, 'fetchmailrc'),
    `poll localhost proto imap auth external plugin "${tunnel}" user "gate" sslproto '' mda "cat >> ${home}/fetched"\n`,
    { mode: 0o600 },
  );
  const files = ['--pidfile', join(home, 'fetchmail.pid'), '--idfile', join(home, 'fetchids')];
  const ran = await client('fetchmail', [
    '-f',
    join(home, 'fetchmailrc'),
    '-N',
    '--nosyslog',
    '--all',
    '--keep',
    ...files,
  ]);
  expect(ran.code, ran.stdout + ran.stderr).toBe(0);
  const fetched = (await readFile(join(home, 'fetched'))).toString('latin1');
  const ids = messages.map(({ bytes }) => /^Message-ID: (.*)\r\n/im.exec(bytes.toString('latin1'))?.[1] ?? 'none');
  expect(ids.filter((id) => fetched.includes(id))).toHaveLength(COUNT);
});

test('mutt with tunnel lists the mailbox and reads a message', async () => {
  await writeFile(
    join(home, 'muttrc'),
    `set folder=imap://gate/ spoolfile=imap://gate/INBOX
set tunnel="${tunnel}" tunnel_is_secure=yes
set pipe_decode=no wait_key=no
push "<last-entry><pipe-message>cat > ${home}/read<enter><exit>"
`,
  );
  const ran = await client('mutt', ['-n', '-F', join(home, 'muttrc'), '-R'], { tty: true });
  expect(ran.code, ran.stdout).toBe(0);
  expect(ran.stdout).toContain(`Msgs:${COUNT}`);
  expect((await readFile(join(home, 'read'))).toString('latin1')).toBe(lf(messages.at(-1)?.bytes ?? Buffer.alloc(0)));
});

test('all of that was one connection', () => {
  const accepted = gate.ssh.log().filter((line) => /^Accepted publickey/.test(line));
  expect(accepted).toHaveLength(1);
});
