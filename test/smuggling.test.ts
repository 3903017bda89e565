import { readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { type Gate, readMaildir } from '@postern/gate';
import { startPostfix, startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hostPort, makePlace, type Place, postern, type Up, up } from './support/postern.ts';

/**
 * Everything that some server takes for the end of a message and RFC 5321 §4.1.1.4 does not, cut in two at every position, through the relay to two real
 * Postfixes: one that takes bare newlines as they come, where the classic sequences smuggle, and one that refuses any.
 */
const REFUSED: Record<string, string> = {
  'LF.LF': '\n.\n',
  'LF.CRLF': '\n.\r\n',
  'LF.CR': '\n.\r',
  'CRLF.LF': '\r\n.\n',
  'CRLF.CR': '\r\n.\r',
  'CR.CR': '\r.\r',
  'CR.LF': '\r.\n',
  'CR.CRLF': '\r.\r\n',
  'CRLF.CRCRLF': '\r\n.\r\r\n',
  'CRLF.LFCRLF': '\r\n.\n\r\n',
  'CRLF.LFCR': '\r\n.\n\r',
  'LFCR.LFCR': '\n\r.\n\r',
  'LF..CRLF': '\n..\r\n',
  'CRLF..LF': '\r\n..\n',
  'CRLF.NUL CRLF': '\r\n.\0\r\n',
  'CRLF NUL.CRLF': '\r\n\0.\r\n',
  'CRLF.CR NUL LF': '\r\n.\r\0\n',
  'CR NUL LF.CRLF': '\r\0\n.\r\n',
  'NUL.NUL': '\0.\0',
};

/**
 * What goes in, and what is text of it when the dots are unstuffed (RFC 5321 §4.5.2). A dot that a faulty client did not stuff stays: smtp-server 3.21.6
 * takes a dot away only from two.
 */
const TAKEN: Record<string, [string, string]> = {
  'CRLF..CRLF': ['\r\n..\r\n', '\r\n.\r\n'],
  'CRLF...CRLF': ['\r\n...\r\n', '\r\n..\r\n'],
  'two stuffed dots': ['\r\n..\r\n..\r\n', '\r\n.\r\n.\r\n'],
  'an empty line, a dot, an empty line': ['\r\n\r\n..\r\n\r\n', '\r\n\r\n.\r\n\r\n'],
  'a dot and a space': ['\r\n. \r\n', '\r\n. \r\n'],
  'a dot that was never stuffed': ['\r\n.x\r\n', '\r\n.x\r\n'],
  'a space and a dot': ['\r\n .\r\n', '\r\n .\r\n'],
  'a dot and a form feed': ['\r\n.\f\r\n', '\r\n.\f\r\n'],
  'a dot and NEL': ['\r\n.\x85\r\n', '\r\n.\x85\r\n'],
  'a stuffed command': ['\r\n..QUIT\r\n', '\r\n.QUIT\r\n'],
};

/** Commands for whoever takes the look-alike for an end. */
const EVIL = 'MAIL FROM:<evil@smuggled.test>\r\nRCPT TO:<gate@lenient.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nevil';
/** Postfix puts one in where there is none. */
const FROM = 'From: me@laptop.test\r\n';
const END = '\r\n.\r\n';
const ROUTES = ['lenient', 'strict'].map((name) => `[[route]]\nmatch = ["${name}.test"]\nhost = "${name}"\n`).join('');

let gates: Gate[] = [];
let place: Place;
let daemon: Up;
let logs: (() => Promise<string>)[];

beforeAll(async () => {
  gates = await Promise.all([startRig({ smtp: false, imapd: false }), startRig({ smtp: false, imapd: false })]);
  const [lenient, strict] = gates as [Gate, Gate];
  const servers = await Promise.all([
    startPostfix(lenient, { domains: ['lenient.test'], settings: { smtpd_forbid_bare_newline: 'no' } }),
    startPostfix(strict, {
      domains: ['strict.test'],
      settings: { smtpd_forbid_bare_newline: 'reject', smtpd_forbid_bare_newline_exclusions: '' },
    }),
  ]);
  logs = servers.map((server) => () => server.log());
  const known = JSON.stringify(gates.map((gate) => gate.client.knownHostsFile));
  const host = (name: string, gate: Gate): string =>
    `[host.${name}]\ndestination = "${gate.account.user}@127.0.0.1:${gate.ssh.port}"\nidentity = ["${gate.client.identityFile}"]\nknown_hosts = ${known}\n`;
  place = await makePlace(
    lenient,
    `${host('lenient', lenient)}${host('strict', strict)}[smtp]\nlisten = ["127.0.0.1:0"]\n${ROUTES}`,
  );
  daemon = await up(place, []);
});

afterAll(async () => {
  await daemon?.stop();
  for (const gate of gates) await gate.stop();
});

/** A session by hand. */
interface Session {
  /** One reply, its last line. */
  reply(): Promise<string>;
  send(bytes: string): void;
  /** Sends, and resolves once the other side has read it all: what is sent next comes to it by itself. */
  sendAndSeeRead(bytes: string): Promise<void>;
  end(): void;
}

async function open(address: string | undefined): Promise<Session> {
  const socket = connect({ ...hostPort(address), noDelay: true });
  let text = '';
  let wake = (): void => {};
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
    wake();
  });
  let closed = false;
  socket.once('close', () => {
    closed = true;
    wake();
  });
  const reply = async (): Promise<string> => {
    for (;;) {
      const [whole, last = ''] = /^(?:\d{3}-[^\r\n]*\r\n)*(\d{3} [^\r\n]*)\r\n/.exec(text) ?? [];
      if (whole !== undefined) {
        text = text.slice(whole.length);
        return last;
      }
      if (closed) throw new Error(`closed after ${text}`);
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  const session = {
    reply,
    send: (bytes: string) => void socket.write(bytes, 'latin1'),
    async sendAndSeeRead(bytes: string) {
      if (bytes === '') return;
      await new Promise((resolve) => socket.write(bytes, 'latin1', resolve));
      while (await underway(socket)) await new Promise(setImmediate);
    },
    end: () => socket.destroy(),
  };
  await reply();
  session.send('EHLO look.alike\r\n');
  await reply();
  return session;
}

/** Whether the kernel still holds bytes of ours that the other side has not read (proc(5)). */
async function underway(socket: Socket): Promise<boolean> {
  const hex = (port: number | undefined): string => (port ?? 0).toString(16).toUpperCase().padStart(4, '0');
  const [near, far] = [hex(socket.localPort), hex(socket.remotePort)];
  const rows = (await readFile('/proc/net/tcp', 'latin1').catch(() => '')).split('\n').map((row) => row.split(/\s+/));
  return rows.some(([, , local = '', remote = '', , queues = '']) => {
    const [tx = '', rx = ''] = queues.split(':');
    if (local.endsWith(`:${near}`) && remote.endsWith(`:${far}`)) return Number.parseInt(tx, 16) > 0;
    return local.endsWith(`:${far}`) && remote.endsWith(`:${near}`) && Number.parseInt(rx, 16) > 0;
  });
}

/** Sends one message, cut in two; the reply to its end. */
async function cut(session: Session, message: string, at: number): Promise<string> {
  session.send('MAIL FROM:<me@laptop.test>\r\nRCPT TO:<gate@lenient.test>\r\nRCPT TO:<gate@strict.test>\r\nDATA\r\n');
  for (const expected of [/^250 /, /^250 /, /^250 /, /^354 /]) expect(await session.reply()).toMatch(expected);
  await session.sendAndSeeRead(message.slice(0, at));
  session.send(message.slice(at));
  const reply = await session.reply();
  // In step: the next reply is to this, and to nothing that was text.
  session.send('VRFY in.step\r\n');
  expect(await session.reply()).toMatch(/^252 /);
  return reply;
}

/** Every position in `part`, its ends included, where it starts at `start`. */
const positions = (start: number, part: string): number[] =>
  Array.from({ length: part.length + 1 }, (_, index) => start + index);

test('what only looks like an end of data is refused, or arrives as the one message it is', async () => {
  const session = await open(daemon.smtp[0]);
  const wanted: string[] = [];
  for (const [name, look] of Object.entries(REFUSED)) {
    const head = `${FROM}Subject: ${name}\r\n\r\nrefused`;
    for (const at of positions(head.length, look)) {
      const reply = await cut(session, `${head}${look}${EVIL}${END}`, at);
      expect(reply, `${name} cut at ${at}`).toMatch(/^554 5\.6\.0 /);
    }
  }
  for (const [name, [look, text]] of Object.entries(TAKEN)) {
    const start = `${FROM}Subject: ${name} 000\r\n\r\ntaken`.length;
    for (const at of [...positions(start, look), ...positions(start + `${look}${EVIL}`.length, END)]) {
      const head = `${FROM}Subject: ${name} ${String(at).padStart(3, '0')}\r\n\r\ntaken`;
      expect(await cut(session, `${head}${look}${EVIL}${END}`, at), `${name} cut at ${at}`).toMatch(/^250 2\.6\.0 /);
      wanted.push(`${head}${text}${EVIL}\r\n`.replaceAll('\r\n', '\n'));
    }
  }
  session.end();
  await allDelivered();
  for (const gate of gates) expect(await arrived(gate)).toEqual([...wanted].sort());
  for (const log of logs) {
    expect(await log()).not.toMatch(/evil@smuggled|bare newline|improper|reject:/);
  }
});

async function allDelivered(): Promise<void> {
  for (;;) {
    const { stdout } = await postern(place, ['queue', 'list', '--json']);
    const left = JSON.parse(stdout) as { reason: string | null; attempts: number }[];
    expect(left.filter(({ attempts }) => attempts > 1)).toEqual([]);
    if (left.length === 0) break;
  }
  // Postfix says 250 before it writes to the Maildir.
  for (const log of logs) {
    for (;;) {
      const text = await log();
      const count = (pattern: RegExp): number => (text.match(pattern) ?? []).length;
      if (count(/status=sent/g) === count(/qmgr.*: from=</g) && count(/status=sent/g) > 0) break;
      await postern(place, ['--version']);
    }
  }
}

/** Messages from their own header on, with no header that anyone put in front; none holds a CR or a NUL. */
async function arrived(gate: Gate): Promise<string[]> {
  const texts = (await readMaildir(gate.maildir)).map((bytes) => bytes.toString('latin1'));
  for (const text of texts) expect(text).not.toMatch(/[\r\0]/);
  return texts.map((text) => text.slice(text.indexOf('From: '))).sort();
}
