import { randomBytes } from 'node:crypto';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { LinkError } from '@postern/core';
import { type Gate, readMaildir } from '@postern/gate';
import { DeliveryError } from '@postern/smtp';
import { startRig } from '@postern/testkit/rig';
import { createTransport } from 'nodemailer';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type SshTransportOptions, sshTransport, TransportError } from './index.ts';

let gate: Gate;

beforeAll(async () => {
  gate = await startRig({
    imapd: false,
    smtp: { refuse: { nobody: 'no such user here' }, defer: { later: 'try again later' }, sizeLimit: 40_000_000 },
  });
});

afterAll(async () => {
  await gate?.stop();
});

function transport(o: Partial<SshTransportOptions> = {}) {
  return createTransport(sshTransport({ host: 'gate', resolve: { sshConfig: gate.client.configFile }, ...o }));
}

async function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** Messages in the Maildir that hold `mark`. */
async function delivered(mark: string): Promise<string[]> {
  return (await readMaildir(gate.maildir))
    .map((bytes) => bytes.toString('latin1'))
    .filter((text) => text.includes(mark));
}

const FROM = 'ada@gate.test';
const TO = 'gate@gate.test';

describe('over the link', () => {
  test('a message arrives, with the far reply as the response', async () => {
    const mailer = transport();
    const info = await mailer.sendMail({ from: FROM, to: TO, subject: 'one', text: 'mark-one\n.\n..dots\n' });
    expect(info).toMatchObject({ accepted: [TO], rejected: [], envelope: { from: FROM, to: [TO] } });
    expect(info.response).toMatch(/^250 .*OK id=/);
    await expect.poll(() => delivered('mark-one')).toHaveLength(1);
    expect((await delivered('mark-one'))[0]).toContain('mark-one\n.\n..dots\n');
    await mailer.close();
  });

  test('every recipient gets its own verdict', async () => {
    const mailer = transport();
    const to = [TO, 'nobody@gate.test', 'later@gate.test'];
    const info = await mailer.sendMail({ from: FROM, to, text: 'mark-verdicts' });
    expect(info.accepted).toEqual([TO]);
    expect(info.rejected.sort()).toEqual(['later@gate.test', 'nobody@gate.test']);
    const errors = Object.fromEntries(info.rejectedErrors.map((error) => [error.recipient, error]));
    const response = expect.stringMatching(/^550 .*no such user here/);
    expect(errors['nobody@gate.test']).toMatchObject({
      code: 'rejected',
      permanent: true,
      responseCode: 550,
      response,
    });
    expect(errors['later@gate.test']).toMatchObject({ code: 'deferred', permanent: false, responseCode: 451 });
    await mailer.close();
  });

  test('a message nobody takes is an error that names each recipient', async () => {
    const mailer = transport();
    const error = await failure(mailer.sendMail({ from: FROM, to: 'nobody@gate.test', text: 'x' }));
    expect(error).toBeInstanceOf(TransportError);
    expect(error).toMatchObject({
      code: 'rejected',
      permanent: true,
      layer: 'protocol',
      rejected: ['nobody@gate.test'],
    });
    const both = await failure(mailer.sendMail({ from: FROM, to: ['nobody@gate.test', 'later@gate.test'], text: 'x' }));
    expect(both).toMatchObject({ code: 'deferred', permanent: false, responseCode: 451 });
    expect((both as Error).message).toContain('later@gate.test');
    await mailer.close();
  });

  test('messages sent at once share one connection, and all arrive', async () => {
    const mailer = transport();
    const before = gate.ssh.log().filter((line) => line.includes('Accepted publickey')).length;
    const sent = await Promise.all(
      Array.from({ length: 30 }, (_, n) => mailer.sendMail({ from: FROM, to: TO, text: `mark-pool ${n}.` })),
    );
    expect(sent.every((info) => info.accepted.length === 1)).toBe(true);
    await expect.poll(() => delivered('mark-pool')).toHaveLength(30);
    expect(gate.ssh.log().filter((line) => line.includes('Accepted publickey')).length - before).toBe(1);
    await mailer.close();
  });

  test('a large message goes out whole, and leaves no file behind', async () => {
    const mailer = transport();
    const content = randomBytes(8 * 1024 * 1024);
    const attachment = { filename: 'big', content: Readable.from([content]) };
    await mailer.sendMail({ from: FROM, to: TO, subject: 'mark-large', text: 'x', attachments: [attachment] });
    await expect.poll(() => delivered('mark-large')).toHaveLength(1);
    const text = (await delivered('mark-large'))[0] ?? '';
    const encoded = /base64[\s\S]*?\n\n([A-Za-z0-9+/=\n]+)\n--/.exec(text)?.[1] ?? '';
    expect(Buffer.from(encoded, 'base64').equals(content)).toBe(true);
    await mailer.close();
  });

  test('the null sender and DSN options reach the envelope', async () => {
    const mailer = transport();
    const envelope = { from: false as const, to: TO };
    const info = await mailer.sendMail({
      envelope,
      from: FROM,
      to: TO,
      text: 'mark-null',
      dsn: { id: 'x1', return: 'headers', notify: 'never' },
    });
    expect(info.envelope.from).toBe(false);
    await expect.poll(() => delivered('mark-null')).toHaveLength(1);
    expect((await delivered('mark-null'))[0]).toMatch(/^Return-path: <>/im);
    await mailer.close();
  });

  test('verify reaches the EHLO of the far server', async () => {
    const mailer = transport();
    await expect(mailer.verify()).resolves.toBe(true);
    expect(await new Promise((resolve) => mailer.verify((...told) => resolve(told)))).toEqual([null, true]);
    await mailer.close();
  });

  test('verify between messages, and beside them, takes nothing from them', async () => {
    const mailer = transport();
    const mail = { from: FROM, to: TO, text: 'mark-verify' };
    await mailer.sendMail(mail);
    await mailer.verify();
    await mailer.sendMail(mail);
    await Promise.all([mailer.verify(), mailer.sendMail(mail), mailer.verify()]);
    await expect.poll(() => delivered('mark-verify')).toHaveLength(3);
    await mailer.close();
  });
});

describe('faults are typed', () => {
  test.each<[string, Partial<SshTransportOptions>, object, new (...args: never[]) => Error]>([
    ['a missing far command', { smtp: 'no-such-command' }, { code: 'command', layer: 'command' }, DeliveryError],
    ['a closed far port', { smtp: 'tcp:127.0.0.1:1' }, { code: 'channel-refused', layer: 'channel' }, LinkError],
    ['an unknown host', { host: 'no-such-host.invalid' }, { layer: 'dns' }, LinkError],
  ])('%s', async (_, o, want, type) => {
    const mailer = transport({ connectTimeoutMs: 3000, ...o });
    const error = await failure(mailer.sendMail({ from: FROM, to: TO, text: 'x' }));
    expect(error).toBeInstanceOf(type);
    expect(error).toMatchObject(want);
    expect(await failure(mailer.verify())).toMatchObject(want);
    await mailer.close();
  });

  test('a malformed address is refused before anything is sent', async () => {
    const mailer = transport();
    const mail = { envelope: { from: FROM, to: ['no domain'] }, text: 'x' };
    expect(await failure(mailer.sendMail(mail))).toMatchObject({ code: 'envelope', permanent: true });
    await mailer.close();
  });

  test('an abort ends the wait for a message whose source has fallen silent', async () => {
    const mailer = transport();
    const abort = new AbortController();
    const text = new Readable({
      read() {
        setImmediate(() => abort.abort(new Error('enough')));
      },
    });
    const error = await failure(mailer.sendMail({ from: FROM, to: TO, text, signal: abort.signal }));
    expect(error).toMatchObject({ code: 'aborted', message: 'not sent: enough' });
    await mailer.close();
  });

  test('no session in time is told in words', async () => {
    const mailer = transport({ connectTimeoutMs: 1 });
    const error = await failure(mailer.sendMail({ from: FROM, to: TO, text: 'x' }));
    expect(error).toMatchObject({ code: 'timeout', message: 'no session with netcat localhost smtp on gate in 1 ms' });
    await mailer.close();
  });

  test('an abort before the message is begun takes it back', async () => {
    const mailer = transport();
    const controller = new AbortController();
    controller.abort(new Error('changed my mind'));
    const error = await failure(mailer.sendMail({ from: FROM, to: TO, text: 'mark-abort', signal: controller.signal }));
    expect(error).toBeInstanceOf(Error);
    expect(await delivered('mark-abort')).toEqual([]);
    await mailer.close();
  });

  test('a closed transport refuses', async () => {
    const transportPlugin = sshTransport({ host: 'gate', resolve: { sshConfig: gate.client.configFile } });
    const mailer = createTransport(transportPlugin);
    await transportPlugin.close();
    expect(await failure(mailer.sendMail({ from: FROM, to: TO, text: 'x' }))).toMatchObject({ code: 'aborted' });
  });
});

test('with queue, the message lies in the spool and nothing is sent', async () => {
  const dir = join(gate.dir, 'spool');
  const mailer = createTransport(sshTransport({ queue: dir }));
  const info = await mailer.sendMail({ from: FROM, to: [TO, 'nobody@gate.test'], text: 'mark-queue' });
  expect(info.accepted).toEqual([TO, 'nobody@gate.test']);
  expect(info.response).toMatch(/^queued as /);
  expect(await readdir(join(dir, 'queue'))).toHaveLength(1);
  expect(await delivered('mark-queue')).toEqual([]);
  await mailer.close();
});

test('with queue, a spool that cannot be made fails one message, not the next', async () => {
  const file = join(gate.dir, 'in-the-way');
  await writeFile(file, '');
  const mailer = createTransport(sshTransport({ queue: join(file, 'spool') }));
  const mail = { from: FROM, to: TO, text: 'x' };
  expect(await failure(mailer.sendMail(mail))).toBeInstanceOf(Error);
  await rm(file);
  expect((await mailer.sendMail(mail)).response).toMatch(/^queued as /);
  await mailer.close();
});
