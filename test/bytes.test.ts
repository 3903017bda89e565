import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { type Gate, readMaildir } from '@postern/gate';
import { seededRandom } from '@postern/testkit';
import { startPostfix, startRig } from '@postern/testkit/rig';
import { simpleParser } from 'mailparser';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hostPort, makePlace, PLAIN, type Up, up } from './support/postern.ts';

/** What arrives is what was sent, but for the header lines that Postern (Received, Message-ID, Date) and the far server put in front. */
const HEADER =
  'From: ada@brook.test\r\nTo: gate@gate.test\r\nMessage-ID: <KEY@brook.test>\r\nDate: Mon, 4 Mar 2024 08:00:00 +0000\r\n';

/** Hands over raw octets in SMTP, dots stuffed as RFC 5321 §4.5.2 asks. */
async function send(address: string | undefined, octets: Buffer): Promise<string> {
  const { host, port } = hostPort(address);
  const socket = connect(port, host);
  await once(socket, 'connect');
  const lines = createInterface(socket)[Symbol.asyncIterator]();
  const reply = async (): Promise<string> => {
    for (;;) {
      const { value } = await lines.next();
      if (!/^\d{3}-/.test(value)) return value;
    }
  };
  await reply();
  for (const command of ['EHLO me', 'MAIL FROM:<ada@brook.test> BODY=8BITMIME', 'RCPT TO:<gate@gate.test>', 'DATA']) {
    socket.write(`${command}\r\n`);
    expect(await reply()).toMatch(/^[23]/);
  }
  socket.write(Buffer.from(octets.toString('latin1').replace(/^\./gm, '..'), 'latin1'));
  socket.write('.\r\n');
  const last = await reply();
  socket.end('QUIT\r\n');
  return last;
}

/** The message of that name, once it lies in the Maildir; latin1, with LF line ends. */
async function arrived(gate: Gate, key: string): Promise<string> {
  const find = async (): Promise<Buffer | undefined> =>
    (await readMaildir(gate.maildir)).find((bytes) => bytes.includes(`<${key}@brook.test>`));
  await expect.poll(find, { timeout: 60_000 }).toBeDefined();
  return (await find())?.toString('latin1') ?? '';
}

/** Lines of every awkward kind a message may hold. */
function awkward(seed: number): Buffer {
  const random = seededRandom(seed);
  const lines = Array.from({ length: 60 }, () => {
    const kind = Math.floor(random() * 7);
    if (kind === 0) return '.'.repeat(1 + Math.floor(random() * 3));
    if (kind === 1) return '';
    if (kind === 2) return `From ${seed} is no separator`;
    if (kind === 3) return ' trailing blanks and a tab \t ';
    if (kind === 4) return 'x'.repeat(998);
    const any = (): string => String.fromCharCode(1 + Math.floor(random() * 255)).replace(/[\r\n]/g, '\x7f');
    return Array.from({ length: Math.floor(random() * 120) }, any).join('');
  });
  return Buffer.from(lines.map((line) => `${line}\r\n`).join(''), 'latin1');
}

const MESSAGES: readonly [string, Buffer][] = [
  ['an empty body', Buffer.from('\r\n')],
  ['no body at all', Buffer.alloc(0)],
  ['a lone dot line', Buffer.from('\r\na\r\n.\r\nb\r\n')],
  ['dots at the start of lines', Buffer.from('\r\n.\r\n..\r\n...x\r\n')],
  ['8-bit text', Buffer.from('\r\nGrüße aus Göteborg\r\n', 'latin1')],
  ['what looks like SMTP', Buffer.from('\r\nQUIT\r\nRSET\r\nMAIL FROM:<x@y>\r\n')],
  ...Array.from({ length: 6 }, (_, seed): [string, Buffer] => [
    `awkward lines, seed ${seed + 1}`,
    Buffer.concat([Buffer.from('\r\n'), awkward(seed + 1)]),
  ]),
];

describe.each(['exim', 'postfix'] as const)('%s over there', (kind) => {
  let gate: Gate;
  let daemon: Up;

  beforeAll(async () => {
    gate = await startRig({ imapd: false, ...(kind === 'exim' ? {} : { smtp: false }) });
    if (kind === 'postfix') await startPostfix(gate);
    daemon = await up(await makePlace(gate, PLAIN));
  });

  afterAll(async () => {
    await daemon?.stop();
    await gate?.stop();
  });

  test.each(MESSAGES)('%s', async (name, body) => {
    const key = name.replace(/\W/g, '-');
    const message = Buffer.concat([Buffer.from(HEADER.replace('KEY', key)), body]);
    expect(await send(daemon.smtp[0], message)).toMatch(/^250 /);
    const got = await arrived(gate, key);
    const want = message.toString('latin1').replaceAll('\r\n', '\n');
    const start = got.indexOf('From: ada@brook.test\n');
    // Both servers end the header with an empty line where there was none.
    expect(got.slice(start).replace(/\n+$/, '\n')).toBe(want.replace(/\n+$/, '\n'));
    expect(got.slice(0, start)).toMatch(/^Received: /m);
  });

  test('a line over 998 octets is encoded on its way, and reads the same', async () => {
    const text = `Grüße ${'wort '.repeat(700)}`;
    const head = HEADER.replace('KEY', 'long');
    expect(await send(daemon.smtp[0], Buffer.from(`${head}\r\nshort\r\n${text}\r\n.dot\r\n`))).toMatch(/^250 /);
    const got = await arrived(gate, 'long');
    expect(Math.max(...got.split('\n').map((line) => line.length))).toBeLessThanOrEqual(998);
    expect((await simpleParser(Buffer.from(got, 'latin1'))).text?.trimEnd()).toBe(`short\n${text}\n.dot`);
  });

  test('each part by itself; the others keep every octet', async () => {
    const other =
      '--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\xfc\xdfe  \r\n';
    const page = `<p>${'and so on, '.repeat(300)}</p>`;
    const head = `${HEADER.replace('KEY', 'parts')}MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n`;
    const text = `${head}${other}--b\r\nContent-Type: text/html\r\n\r\n${page}\r\n--b--\r\n`;
    expect(await send(daemon.smtp[0], Buffer.from(text, 'latin1'))).toMatch(/^250 /);
    const got = await arrived(gate, 'parts');
    expect(Math.max(...got.split('\n').map((line) => line.length))).toBeLessThanOrEqual(998);
    expect(got).toContain(other.replaceAll('\r\n', '\n'));
    const mail = await simpleParser(Buffer.from(got, 'latin1'));
    expect(mail.html).toContain(page);
    expect(mail.text?.trimEnd()).toBe('Grüße');
  });

  const LONG = 'x'.repeat(1500);
  test.each([
    ['DKIM', `DKIM-Signature: v=1; d=brook.test\r\n\r\n${LONG}\r\n`],
    ['PGP', `Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\n${LONG}\r\n--s\r\n\r\nsig\r\n--s--\r\n`],
    ['S-MIME', `Content-Type: application/pkcs7-mime\r\n\r\n${LONG}\r\n`],
  ])('a signed message (%s) with such a line leaves as it is', async (kind, rest) => {
    const key = `signed-${kind}`;
    expect(await send(daemon.smtp[0], Buffer.from(`${HEADER.replace('KEY', key)}${rest}`))).toMatch(/^250 /);
    expect(await arrived(gate, key)).toContain(rest.replaceAll('\r\n', '\n'));
  });
});

describe('[smtp] long_lines', () => {
  let gate: Gate;
  beforeAll(async () => {
    gate = await startRig({ imapd: false });
  });
  afterAll(() => gate?.stop());

  test.each(['keep', 'refuse'])('%s', async (how) => {
    const daemon = await up(await makePlace(gate, PLAIN.replace('[smtp]', `[smtp]\nlong_lines = "${how}"`)));
    try {
      const long = `${'x'.repeat(3000)}\r\n`;
      const head = HEADER.replace('KEY', `lines-${how}`);
      const reply = await send(daemon.smtp[0], Buffer.from(`${head}Subject: x\r\n\r\n${long}`));
      expect(reply).toMatch(how === 'keep' ? /^250 / : /^554 5\.6\.0 .* longer than 998 octets/);
      if (how === 'refuse') return;
      expect(await arrived(gate, 'lines-keep')).toContain(`\n\n${long.replace('\r\n', '\n')}`);
    } finally {
      await daemon.stop();
    }
  });
});
