import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EntryId, Envelope, Spool } from '@postern/core';
import { openSpool } from '@postern/spool';
import { splits, virtualEnv } from '@postern/testkit';
import { simpleParser } from 'mailparser';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { PosternError } from '../base/errors.ts';
import { parseSendmailArgs, type SubmitRequest } from './args.ts';
import type { Identity } from './compose.ts';
import { submit } from './submit.ts';

const env = virtualEnv({ startMs: Date.UTC(2026, 0, 2, 3, 4, 5) });
const identity: Identity = { user: 'ann', domain: 'laptop.example', fullName: 'Ann Lee' };
const RECEIVED =
  'Received: from localhost by laptop.example (Postern)\r\n\twith local id ID;\r\n\tFri, 02 Jan 2026 03:04:05 +0000\r\n';
const FROM = 'From: "Ann Lee"\r\n <ann@laptop.example>\r\n';
const DATE = 'Date: Fri, 02 Jan 2026 03:04:05 +0000\r\n';
const ID = 'Message-ID: <ID@laptop.example>\r\n';

interface Taken {
  readonly envelope: Envelope;
  readonly text: string;
}

const dir = mkdtempSync(join(tmpdir(), 'postern-submit-'));
let spool: Spool;
beforeAll(async () => {
  spool = await openSpool({ dir, env });
});
afterAll(async () => {
  await spool.close();
  rmSync(dir, { recursive: true, force: true });
});

async function* feed(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}

async function send(
  argv: string,
  text: string | readonly Uint8Array[],
  refusal?: (from: string, to: string) => string | undefined,
): Promise<Taken> {
  const request = parseSendmailArgs(argv.split(' ')).request as SubmitRequest;
  const chunks = typeof text === 'string' ? [Buffer.from(text, 'latin1')] : text;
  const o = { request, input: feed(chunks), spool, identity, env };
  const { id } = await submit(refusal === undefined ? o : { ...o, refusal });
  const state = spool.get(id);
  if (state === undefined) throw new Error('the spool does not have it');
  const stored: Uint8Array[] = [];
  for await (const chunk of spool.read(id)) stored.push(chunk);
  await spool.remove(id);
  return { envelope: state.envelope, text: Buffer.concat(stored).toString('latin1').replaceAll(id, 'ID') };
}

const whole = 'From: me@x\nDate: today\nMessage-ID: <1@x>\n';
const wholeCrlf = whole.replaceAll('\n', '\r\n');

describe('a message given to sendmail', () => {
  test('that is whole keeps every octet of its header and body', async () => {
    const { text, envelope } = await send('-i a@x', `${whole}X-Odd :  spaced \n\tfolded\n\nbody\n.\n..dots\nno end`);
    expect(text).toBe(`${RECEIVED}${wholeCrlf}X-Odd :  spaced \r\n\tfolded\r\n\r\nbody\r\n.\r\n..dots\r\nno end`);
    expect(envelope).toEqual({
      from: 'ann@laptop.example',
      recipients: [{ to: 'a@x' }],
      body: '7BIT',
      smtputf8: false,
    });
  });

  const minimal = Buffer.from('To: a@x\nBcc: b@x,\n c@x\nSubject: s\n\nbody\n');
  test.each(splits(minimal))('gets From, Date and Message-ID, and loses Bcc, %s', async (_how, chunks) => {
    const { text, envelope } = await send('-t', chunks);
    expect(text).toBe(`${RECEIVED}${FROM}${DATE}${ID}To: a@x\r\nSubject: s\r\n\r\nbody\r\n`);
    expect(envelope.recipients.map(({ to }) => to)).toEqual(['a@x', 'b@x', 'c@x']);
  });

  test('that has no header becomes the body', async () => {
    expect((await send('root', 'hello: not\nthere')).text).toContain('hello: not\r\n\r\nthere');
    expect((await send('root', 'hello there\nFrom: me\n')).text).toBe(
      `${RECEIVED}${FROM}${DATE}${ID}\r\nhello there\r\nFrom: me\r\n`,
    );
    expect((await send('root', '')).text).toBe(`${RECEIVED}${FROM}${DATE}${ID}\r\n`);
    expect((await send('root', 'Subject: only')).text).toBe(`${RECEIVED}${FROM}${DATE}${ID}Subject: only\r\n\r\n`);
  });

  test('that starts with an mbox line loses that line', async () => {
    expect((await send('-i a@x', `From ann Mon Jan  1\n${whole}\nFrom here\n`)).text).toBe(
      `${RECEIVED}${wholeCrlf}\r\nFrom here\r\n`,
    );
  });

  test('ends at a lone dot without -i', async () => {
    expect((await send('a@x', `${whole}\nbody\n.\nlost\n`)).text).toBe(`${RECEIVED}${wholeCrlf}\r\nbody\r\n`);
  });

  test.each<[string, string, string[]]>([
    ['-t', 'To: a@x\nCc: "B, b" <b@x>\n\n', ['a@x', 'b@x']],
    ['-t c@x a@x', 'To: a@x\n\n', ['c@x', 'a@x']],
    ['-t', 'To: root\n\n', ['root@laptop.example']],
    ['a@x', 'To: b@x\nBcc: c@x\n\n', ['a@x']],
    ['a@x,b@x', '\n', ['a@x', 'b@x']],
    [
      '-t',
      'Resent-From: me@x\nResent-To: new@x\nReceived: x\nResent-From: old@x\nResent-To: older@x\nTo: first@x\n\n',
      ['new@x'],
    ],
    ['-t', 'Resent-To: new@x\nResent-Bcc: hidden@x\nTo: first@x\n\n', ['new@x', 'hidden@x']],
    ['-t', 'Resent-From: me@x\nTo: first@x\n\n', ['first@x']],
    ['-t', 'To: undisclosed-recipients:;\nBcc: a@x\n\n', ['a@x']],
    ['-t', 'To: jo@exämple.de\n\n', ['jo@xn--exmple-cua.de']],
  ])('%s with %j goes to %j', async (argv, text, expected) => {
    const { envelope, text: sent } = await send(argv, [Buffer.from(text)]);
    expect(envelope.recipients.map(({ to }) => to)).toEqual(expected);
    expect(sent).not.toMatch(/^(Resent-)?Bcc:/im);
  });

  test.each([
    ['-f other@y a@x', 'other@y'],
    ['-f other a@x', 'other@laptop.example'],
    ['-f <> a@x', ''],
    ['-fAnn<ann@y> a@x', 'ann@y'],
    ['a@x', 'ann@laptop.example'],
  ])('%s has the reverse-path %j', async (argv, from) => {
    expect((await send(argv, '\n')).envelope.from).toBe(from);
  });

  test.each([
    ['From: root (Cron Daemon)', 'From: root@laptop.example (Cron Daemon)'],
    ['To: root', 'To: root@laptop.example'],
    [
      'To: root, ann@x, <bob>, Carl <carl>',
      'To: root@laptop.example, ann@x, <bob@laptop.example>, Carl <carl@laptop.example>',
    ],
    ['To: "Doe, Ann" <ann@x>', 'To: "Doe, Ann" <ann@x>'],
    ['To: undisclosed-recipients:;', 'To: undisclosed-recipients:;'],
    ['Reply-To: Ann Lee <ann@x>', 'Reply-To: Ann Lee <ann@x>'],
    ['Subject: root', 'Subject: root'],
  ])('%s goes out as %s', async (field, sent) => {
    expect((await send('a@x', `${field}\n\nx`)).text).toContain(`\r\n${sent}\r\n`);
  });

  test('carries DSN wishes', async () => {
    const { envelope } = await send('-N failure,delay -R full -V e1 a@x', '\n');
    expect(envelope).toMatchObject({
      ret: 'FULL',
      envid: 'e1',
      recipients: [{ to: 'a@x', notify: ['FAILURE', 'DELAY'] }],
    });
  });

  test.each([
    ['-FJörg a@x', 'From: =?UTF-8?B?SsO2cmc=?=\r\n <ann@laptop.example>\r\n'],
    ['-FA"B a@x', 'From: "A\\"B"\r\n <ann@laptop.example>\r\n'],
    ['-FEvil\r\nBcc:x a@x', 'From: "Evil Bcc:x"\r\n <ann@laptop.example>\r\n'],
  ])('%j names the sender safely', async (argv, from) => {
    expect((await send(argv, '\n')).text).toContain(from);
  });

  test('asks for 8BITMIME only when it has 8-bit octets, and for SMTPUTF8 only when an address needs it', async () => {
    expect((await send('a@x', 'Subject: caf\xc3\xa9\n\nx')).envelope).toMatchObject({
      body: '8BITMIME',
      smtputf8: false,
    });
    expect((await send('-t', 'To: j\xc3\xb6@x\n\nx')).envelope).toMatchObject({ body: '8BITMIME', smtputf8: true });
  });

  test('of many megabytes is streamed, octet for octet', async () => {
    const line = `${'y'.repeat(76)}\n`;
    const lines = 100_000;
    const chunks = [Buffer.from(`${whole}\n`), ...Array.from({ length: lines }, () => Buffer.from(line))];
    const { text, envelope } = await send('-i a@x', chunks);
    expect(text.length).toBe(RECEIVED.length + wholeCrlf.length + 2 + lines * (line.length + 1));
    expect(envelope.body).toBe('7BIT');
  });

  test.each<[string, string, string, number]>([
    ['no recipient in To, Cc or Bcc', '-t', 'Subject: x\n\n', 65],
    ['there is no address in it', '-t', 'To: two words\n\n', 65],
    ['a@b@c', 'a@b@c', '\n', 65],
    ['a sender is one address', '-f a@x,b@x c@x', '\n', 65],
    ['the header is over', 'a@x', `${'X-Y: 1\n'.repeat(200_000)}\n`, 65],
  ])('a message is refused: %s', async (message, argv, text, status) => {
    const failed = await send(argv, text).catch((error: PosternError) => error);
    expect((failed as PosternError).message).toContain(message);
    expect((failed as PosternError).status).toBe(status);
  });

  test.each([
    ['a signed line', `DKIM-Signature: v=1\n\n${'x'.repeat(999)}\n`],
    ['a signed part', `Content-Type: multipart/signed; boundary=b\n\n--b\n\n${'x'.repeat(999)}\n--b--\n`],
  ])('keeps a long line where it is signed: %s', async (_what, text) => {
    const taken = await send('-i a@x', `${whole}${text}`);
    expect(taken.text.endsWith(text.replaceAll('\n', '\r\n'))).toBe(true);
  });

  test.each([
    ['text between parts', `Content-Type: multipart/mixed; boundary=b\n\n${'x'.repeat(999)}\n--b\n\ny\n--b--\n`],
    ['a header line without a blank', `X-Y:${'x'.repeat(999)}\n\nx\n`],
  ])('has a long line broken where no encoding reaches it: %s', async (_what, text) => {
    const taken = await send('-i a@x', `${whole}${text}`);
    expect(Math.max(...taken.text.split('\r\n').map((line) => line.length))).toBe(998);
    expect(taken.text.replace(/x\r\n x/g, 'xx').endsWith(text.replaceAll('\n', '\r\n'))).toBe(true);
  });

  test.each([
    [
      'a part in an encoding of its own',
      `Content-Type: image/x\nContent-Transfer-Encoding: x-uuencode\n\n${'x'.repeat(999)}\n`,
      'Content-Type: application/octet-stream\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n',
    ],
    ['a NUL in what is signed', 'DKIM-Signature: v=1\n\na\0b\n', '\r\n\r\na=00b\r\n'],
    [
      'a part header of more than a MiB',
      `Content-Type: multipart/mixed; boundary=b\n\n--b\n${'X: y\n'.repeat(300_000)}\nx\n--b--\n`,
      'X: y\r\n',
    ],
  ])('is never refused for %s', async (_what, given, want) => {
    expect((await send('-i a@x', given)).text).toContain(want);
  });

  test.each([
    ['the header', 'Subject: a\0b\rc\n\nx\n'],
    ['text between parts', 'Content-Type: multipart/mixed; boundary=b\n\na\0b\rc\n--b\n\ny\n--b--\n'],
  ])('has a blank where no encoding reaches a NUL or a bare CR, however it is read: in %s', async (_where, text) => {
    const wanted = `${whole}${text}`.replace('\0', ' ').replace('\r', ' ').replaceAll('\n', '\r\n');
    for (const [, chunks] of splits(Buffer.from(`${whole}${text}`, 'latin1'), 3)) {
      expect((await send('-i a@x', chunks)).text.endsWith(wanted)).toBe(true);
    }
  });

  test.each([
    ['a line of 3,000 characters, as cron sends', `begin\n${'word '.repeat(600)}\nend\n`],
    ['a progress bar', 'loading 1%\rloading 2%\rdone\n'],
    ['a NUL', 'a\0b\n'],
    ['a line that has no end', 'x'.repeat(2000)],
  ])('is never refused for its octets: %s is encoded and reads the same', async (_what, body) => {
    const { text, envelope } = await send('-i a@x', `Subject: x\n\n${body}`);
    expect(text).toContain('Content-Transfer-Encoding: quoted-printable\r\n');
    expect(Math.max(...text.split('\r\n').map((line) => line.length))).toBeLessThanOrEqual(998);
    expect((await simpleParser(text)).text?.trimEnd()).toBe(body.replace(/\r(?!\n)/g, '\r').trimEnd());
    expect(envelope.body).toBe('7BIT');
  });

  test('larger than the memory it may have is encoded from a file, which is gone afterwards', async () => {
    const own = mkdtempSync(join(dir, 'tmp-'));
    vi.stubEnv('TMPDIR', own);
    onTestFinished(() => void vi.unstubAllEnvs());
    const line = `${'wide '.repeat(300)}\n`;
    const chunks = Array.from({ length: 3000 }, () => Buffer.from(line));
    const { text } = await send('-i a@x', [Buffer.from('Subject: x\n\n'), ...chunks]);
    expect(text.length).toBeGreaterThan(4_000_000);
    expect(readdirSync(own)).toEqual([]);
  });

  test('has a recipient for each address of an argument, whatever stands between them', async () => {
    const request = parseSendmailArgs(['e@x f@x', 'g@x;h@x']).request as SubmitRequest;
    const { id } = await submit({ request, input: feed([Buffer.from('\n')]), spool, identity, env });
    expect(spool.get(id)?.envelope.recipients.map(({ to }) => to)).toEqual(['e@x', 'f@x', 'g@x', 'h@x']);
    await spool.remove(id);
  });

  test('leaves out a recipient of the header that cannot be used, sends to the others, and tells the sender by a DSN', async () => {
    const request = parseSendmailArgs(['-t']).request as SubmitRequest;
    const text = 'To: a@x b@x, two words, c@x\nCc: d@@x\nSubject: ten\n\nbody\n';
    const { id, refused } = await submit({ request, input: feed([Buffer.from(text)]), spool, identity, env });
    expect(refused.map((one) => one.text)).toEqual(['two words', 'd@@x']);
    const [message, dsn] = [...spool.entries()].toSorted((a) => (a.id === id ? -1 : 1));
    expect(message?.envelope.recipients.map(({ to }) => to)).toEqual(['a@x', 'b@x', 'c@x']);
    expect(dsn?.envelope).toMatchObject({ from: '', recipients: [{ to: 'ann@laptop.example' }] });
    let told = '';
    for await (const chunk of spool.read(dsn?.id as EntryId)) told += Buffer.from(chunk).toString('latin1');
    expect(told).toContain('two words');
    expect(told).toContain('Subject: ten');
    expect(told).not.toMatch(/[\x80-\xff]/);
    for (const entry of [message, dsn]) await spool.remove(entry?.id as EntryId);
  });

  test('that no route takes is refused with 68 before anything is spooled', async () => {
    const refusal = (_from: string, to: string): string | undefined => (to === 'b@x' ? 'no route takes it' : undefined);
    const failed = await send('a@x b@x', '\n', refusal).catch((error: PosternError) => error);
    expect((failed as PosternError).message).toBe('b@x: no route takes it; nothing was sent');
    expect((failed as PosternError).status).toBe(68);
    expect([...spool.entries()]).toEqual([]);
  });
});
