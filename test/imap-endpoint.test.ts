import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { type Link, quote, systemEnv } from '@postern/core';
import { findProgram, type Gate, makeOwned, reachableProgram, type SeedMessage, seedMaildir } from '@postern/gate';
import { type Continuity, createEndpoint, createImapd, type Endpoint, type Imapd, type ImapEvent } from '@postern/imap';
import { createLink, resolveHost } from '@postern/ssh';
import { seededRandom } from '@postern/testkit';
import { type LoginServer, rigPrograms, startDovecot, startRig } from '@postern/testkit/rig';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Wire } from './support/wire.ts';

/** The endpoint over a real link to real imapds. */
const COUNT = 60;
let gate: Gate;
let messages: SeedMessage[];
let link: Link;
const cleanups: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  gate = await startRig({ smtp: false });
  messages = await seedMaildir(gate.maildir, { count: COUNT, account: gate.account });
  link = await newLink();
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
afterAll(async () => {
  await link?.close();
  await gate?.stop();
});

async function newLink(): Promise<Link> {
  const host = await resolveHost('gate', {
    sshConfig: gate.client.configFile,
    environment: { PATH: process.env.PATH },
    overrides: {},
  });
  return createLink(host, { env: systemEnv });
}

interface Served {
  readonly port: number;
  readonly imapd: Imapd;
  readonly endpoint: Endpoint;
  readonly events: ImapEvent[];
}

async function serve(
  o: { command?: string; spare?: number; over?: Link; continuity?: Continuity } = {},
): Promise<Served> {
  const events: ImapEvent[] = [];
  const onEvent = (event: ImapEvent): void => void events.push(event);
  const imapd = createImapd({
    link: o.over ?? link,
    spare: o.spare ?? 0,
    env: systemEnv,
    onEvent,
    noted: o.continuity !== undefined,
    ...(o.command === undefined ? {} : { command: o.command }),
  });
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const endpoint = createEndpoint({
    server,
    imapd,
    admit: async () => ({ type: 'open', who: 'same-user' }),
    env: systemEnv,
    onEvent,
    ...(o.continuity === undefined ? {} : { continuity: o.continuity }),
  });
  cleanups.push(
    () => new Promise((resolve) => server.close(resolve)),
    () => imapd.close(),
    () => endpoint.close(),
  );
  const address = server.address();
  return { port: typeof address === 'object' && address !== null ? address.port : 0, imapd, endpoint, events };
}

/** Connects; hung up after the test. */
function dial(port: number): Wire {
  const wire = new Wire(port);
  cleanups.push(async () => wire.socket.destroy());
  return wire;
}

async function loggedIn(port: number): Promise<Wire> {
  const wire = dial(port);
  wire.send('a LOGIN reader pw\r\n');
  await wire.upTo(/a OK .*\r\n/);
  return wire;
}

describe('real imapds', () => {
  test('Dovecot is found, and a message comes byte for byte', async () => {
    const { port, events } = await serve();
    const wire = dial(port);
    wire.send('a LOGIN reader pw\r\nb SELECT INBOX\r\nc FETCH 7 BODY.PEEK[]\r\nd LOGOUT\r\n');
    const text = await wire.rest();
    expect(text).toMatch(/a OK \[CAPABILITY IMAP4rev1 .*IDLE.*\] Logged in\r\n/);
    expect(text).not.toMatch(/a OK .*(?:AUTH=|STARTTLS)/);
    expect(text).toContain(`{${messages[6]?.bytes.length}}\r\n${messages[6]?.bytes.toString('latin1')}`);
    expect(events).toContainEqual({ type: 'imapd-found', host: 'gate', command: 'imapd' });
  });

  test.each([
    ['Courier', 'courier-imap', ['imapd'], ['usr/bin'], []],
    ['mailutils', 'mailutils-imap4d', ['imap4d'], ['usr/sbin'], ['--inetd', '--preauth']],
  ] as const)('%s is served as well', async (name, pack, names, dirs, args) => {
    // Private libraries of Courier lie beside the architecture's in courier-authlib 0.73.1 (forky).
    const triplet = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
    const libraryDirs = [`usr/lib/${triplet}/courier-authlib`];
    const found = await findProgram({ names, package: pack, dirs, libraryDirs }, { ...rigPrograms(), prefer: 'cache' });
    const program = await reachableProgram(found, gate.dir);
    const home = join(gate.home, name);
    for (const dir of ['', 'Maildir', 'Maildir/cur', 'Maildir/new', 'Maildir/tmp']) {
      await makeOwned(gate.account, join(home, dir));
    }
    const env = Object.entries({ ...program.env, HOME: home, USER: gate.account.user });
    const spool = name === 'mailutils' ? [`--set=.mailbox.mail-spool=maildir:${join(home, 'Maildir')}`] : [];
    const words = ['env', ...env.map(([key, value]) => `${key}=${value}`), program.command, ...args, ...spool].map(
      quote,
    );
    const { port, events } = await serve({ command: `cd ${quote(home)} && exec ${words.join(' ')}`, spare: 1 });
    for (let round = 0; round < 2; round++) {
      const wire = dial(port);
      wire.send('a LOGIN reader pw\r\nb SELECT INBOX\r\nc LOGOUT\r\n');
      const text = await wire.rest();
      expect(text).toMatch(/a OK \[CAPABILITY IMAP4rev1 [^\]]*\] Logged in\r\n/);
      expect(text).not.toMatch(/a OK .*AUTH=/);
      expect(text).toMatch(/\* 0 EXISTS\r\n/i);
      expect(text).toMatch(/b OK/);
      expect(text).toMatch(/c OK/);
      expect(text.match(/^\S+ (?:OK|BAD|NO) /gm)?.length).toBeGreaterThanOrEqual(4);
      expect(text).not.toContain('postern ');
    }
    expect(events.filter((event) => event.type === 'login').length).toBe(2);
  });

  test('a command that is missing is a NO that names it, its status and its words', async () => {
    const { port } = await serve({ command: 'no-such-imapd' });
    const wire = dial(port);
    wire.send('a LOGIN reader pw\r\n');
    expect(await wire.upTo(/a .*\r\n/)).toMatch(
      /a NO \[CONTACTADMIN\] "no-such-imapd" on gate ended with status 127 before its greeting: .*not found\r\n$/,
    );
  });

  test('a spare is taken at login, and it is one that was open before', async () => {
    const { port, imapd, events } = await serve({ spare: 2 });
    await expect.poll(() => imapd.status.spares).toBe(2);
    const wire = await loggedIn(port);
    wire.send('b LOGOUT\r\n');
    await wire.rest();
    expect(events.find((event) => event.type === 'login')).toMatchObject({ spare: true });
  });
});

describe('a session over a real link', () => {
  test('IDLE tells of a new message', async () => {
    const { port } = await serve();
    const wire = await loggedIn(port);
    wire.send('b SELECT INBOX\r\nc IDLE\r\n');
    await wire.upTo(/\+ idling\r\n/);
    const other = await loggedIn(port);
    other.send('b APPEND INBOX {28}\r\n');
    await other.upTo(/\+ .*\r\n/);
    other.send('Subject: pushed\r\n\r\npushed!\r\n\r\n');
    await other.upTo(/b OK .*\r\n/);
    expect(await wire.upTo(/EXISTS\r\n/)).toContain(`* ${COUNT + 1} EXISTS`);
    wire.send('DONE\r\nd STORE * +FLAGS.SILENT (\\Deleted)\r\ne EXPUNGE\r\n');
    await wire.upTo(/e OK .*\r\n/);
  });

  test('a lost link is BYE and FIN to everybody, and the next login dials again', async () => {
    const own = await newLink();
    cleanups.push(() => own.close());
    const { port, endpoint } = await serve({ over: own });
    const wires = [await loggedIn(port), await loggedIn(port), await loggedIn(port)];
    await gate.ssh.dropConnections();
    for (const wire of wires) {
      expect(await wire.rest()).toMatch(/^\* BYE \[UNAVAILABLE\] the link to gate was lost: [^\r\n]+\r\n$/);
      wire.socket.end();
    }
    await expect.poll(() => endpoint.sessions).toBe(0);
    (await loggedIn(port)).send('b LOGOUT\r\n');
  });

  test('twenty sessions at once do not mix', async () => {
    const { port } = await serve({ spare: 1 });
    await Promise.all(
      Array.from({ length: 20 }, async (_, index) => {
        const wire = await loggedIn(port);
        wire.send(`b SELECT INBOX\r\nc FETCH ${index + 1} BODY.PEEK[]\r\nd LOGOUT\r\n`);
        const text = await wire.rest();
        expect(text).toContain(messages[index]?.bytes.toString('latin1'));
      }),
    );
  });
});

describe('the same script, to Dovecot itself and through the endpoint', () => {
  let direct: LoginServer;
  beforeAll(async () => {
    direct = await startDovecot(gate);
  });
  afterAll(() => direct?.stop());

  test.each([
    [1, 'the plain splice', {}],
    [2, 'the plain splice', {}],
    [3, 'the plain splice', {}],
    [1, 'continuity', { continuity: {} }],
    [2, 'continuity', { continuity: {} }],
    [4, 'continuity', { continuity: {} }],
  ] as const)('gives the same bytes, seed %i, with %s', async (seed, _how, o) => {
    const { port } = await serve(o);
    const script = makeScript(seed, 400);
    const run = async (at: number, password: string): Promise<string> => {
      const wire = dial(at);
      wire.send(`a LOGIN ${gate.account.user} ${password}\r\n`);
      await wire.upTo(/a OK .*\r\n/);
      let text = '';
      for (const [index, command] of script.entries()) {
        wire.send(`t${index} ${command}`);
        text += await wire.upTo(new RegExp(`^t${index} (?:OK|NO|BAD)[^\\r\\n]*\\r\\n`, 'm'));
      }
      wire.send('z LOGOUT\r\n');
      await wire.rest();
      return comparable(text);
    };
    // The first run leaves Dovecot's indexes as the later ones find them.
    await run(direct.port, direct.password);
    const itself = await run(direct.port, direct.password);
    expect(await run(port, 'any')).toBe(itself);
    expect(itself.length).toBeGreaterThan(10_000);
  });
});

/** Takes out what differs between two runs over the same mailbox whoever carries them. */
function comparable(text: string): string {
  return text
    .replace(/\(\d+\.\d+ \+ \d+\.\d+[^)]*secs\)/g, '(secs)')
    .replace(/(?:APPENDUID|COPYUID) [^\]]+/g, 'UIDS')
    .replace(/UIDVALIDITY \d+/g, 'UIDVALIDITY')
    .replace(/UIDNEXT \d+/g, 'UIDNEXT')
    .replace(/HIGHESTMODSEQ \d+/g, 'HIGHESTMODSEQ')
    .replace(/MODSEQ \(\d+\)/g, 'MODSEQ')
    .replace(/INTERNALDATE "[^"]*"/g, 'INTERNALDATE');
}

/** A seeded script that leaves the mailboxes as it found them; INBOX is only read. */
function makeScript(seed: number, length: number): string[] {
  const random = seededRandom(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  const number = (): number => 1 + Math.floor(random() * COUNT);
  const range = (): string => {
    const [low, high] = [number(), number()].sort((a, b) => a - b);
    return `${low}:${high}`;
  };
  const literal = (bytes: string): string => `{${Buffer.byteLength(bytes, 'latin1')}+}\r\n${bytes}`;
  const noise = (size: number): string =>
    Array.from({ length: size }, () => String.fromCharCode(1 + Math.floor(random() * 255))).join('');
  const makers: (() => string)[] = [
    () => `FETCH ${number()} BODY.PEEK[]\r\n`,
    () => `FETCH ${range()} (UID FLAGS RFC822.SIZE ENVELOPE)\r\n`,
    () => `FETCH ${range()} (BODYSTRUCTURE)\r\n`,
    () => `FETCH ${number()} BODY.PEEK[]<${number()}.${number() * 20}>\r\n`,
    () => `FETCH ${number()} BINARY.PEEK[2]\r\n`,
    () => `FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (SUBJECT FROM)])\r\n`,
    () => `SEARCH CHARSET UTF-8 SUBJECT ${literal(pick(['Göteborg', 'pump', 'Übergabe']))}\r\n`,
    () => `UID SEARCH ${pick(['SEEN', 'UNSEEN', 'FLAGGED', 'LARGER 1000'])}\r\n`,
    () => `SORT (${pick(['DATE', 'SUBJECT', 'SIZE'])}) UTF-8 ALL\r\n`,
    () => 'THREAD REFERENCES UTF-8 ALL\r\n',
    () => `LIST "" "*"\r\n`,
    () => `STATUS INBOX (MESSAGES UNSEEN)\r\n`,
    () => 'NOOP\r\n',
    () => 'CHECK\r\n',
    () =>
      `${
        `${pick(['NAMESPACE', 'ENABLE CONDSTORE', 'GIBBERISH', 'FETCH', 'SELECT "nowhere"'])}\r\nEXAMINE`.split(
          '\r\n',
        )[0]
      }\r\n`,
    () => `APPEND Scratch (\\Seen) ${literal(`Subject: x\r\n\r\n${noise(200)}\r\n`)}\r\n`,
    () => `APPEND Scratch ~${literal(`Subject: 8\r\n\r\n${'\0'.repeat(20)}\r\n`)}\r\n`,
    () => 'FETCH 999 FLAGS\r\n',
    () => `COPY ${range()} Scratch\r\n`,
  ];
  const body = Array.from({ length }, () => pick(makers)());
  return ['CREATE Scratch\r\n', 'EXAMINE INBOX\r\n', ...body, 'DELETE Scratch\r\n'];
}
