import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemEnv } from '@postern/core';
import { makeCertificate } from '@postern/testkit/rig';
import { SMTPServer, type SMTPServerOptions } from 'smtp-server';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeEntry, makeReport, toBatch } from './courier.test-util.ts';
import { createSmarthostCourier, parseSmarthost, type SmarthostOptions } from './smarthost.ts';

const dir = mkdtempSync(join(tmpdir(), 'postern-smarthost-'));
let cert = '';
let key = '';
beforeAll(async () => {
  const made = await makeCertificate({ dir, names: ['DNS:localhost'] });
  cert = made.cert.toString();
  key = made.key.toString();
});
afterAll(() => rmSync(dir, { recursive: true }));

interface Heard {
  readonly port: number;
  readonly messages: { text: string; secure: boolean; user: string | undefined }[];
  close(): Promise<void>;
}

/** A real SMTP server that takes `me` with `open sesame`. */
async function serve(o: SMTPServerOptions): Promise<Heard> {
  const messages: Heard['messages'] = [];
  const server = new SMTPServer({
    ...{ cert, key, disableReverseLookup: true },
    onAuth({ username, password }, _session, done) {
      const right = username === 'me' && password === 'open sesame';
      done(right ? null : new Error('Invalid login'), right ? { user: username } : undefined);
    },
    onData(stream, session, done) {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('end', () => {
        const user = (session.user || undefined) as string | undefined;
        messages.push({ text: Buffer.concat(chunks).toString(), secure: session.secure, user });
        done();
      });
    },
    ...o,
  });
  server.on('error', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.server.address() as AddressInfo;
  return { port, messages, close: () => new Promise((resolve) => server.close(() => resolve())) };
}

/** The rejection, or undefined, and what was told. */
async function send(o: Partial<SmarthostOptions> & { url: string }): Promise<{ error: unknown; lines: string[] }> {
  const told = makeReport();
  const courier = createSmarthostCourier({
    ...{ smarthost: parseSmarthost(o.url), helo: 'home.test', env: systemEnv, ca: cert },
    ...o,
  });
  const entries = [makeEntry({ id: 'a' }), makeEntry({ id: 'b', message: 'Subject: y\r\n\r\n.\r\n' })];
  const error = await courier(toBatch(entries), told.report).then(
    () => undefined,
    (error: unknown) => error,
  );
  return { error, lines: told.lines };
}
const password = async (): Promise<string> => 'open sesame';
const DELIVERED = ['a attempting', 'a joe@gate.test delivered 250', 'b attempting', 'b joe@gate.test delivered 250'];

describe('a smarthost', () => {
  test('is read from a URL, with the port its kind has', () => {
    expect(parseSmarthost('smtps://me@mail.example.org')).toEqual({
      ...{ host: 'mail.example.org', port: 465, tls: 'implicit', user: 'me' },
    });
    expect(parseSmarthost('smtp://me%40x.org@[2001:db8::1]:25')).toMatchObject({
      ...{ host: '2001:db8::1', port: 25, tls: 'starttls', user: 'me@x.org' },
    });
    for (const bad of ['', 'mail.example.org', 'http://x']) expect(() => parseSmarthost(bad)).toThrow(RangeError);
  });
  for (const methods of [['PLAIN'], ['LOGIN']]) {
    test(`takes mail over TLS after AUTH ${methods}`, async () => {
      const server = await serve({ secure: true, authMethods: methods });
      const url = `smtps://me@localhost:${server.port}`;
      const { error, lines } = await send({ url, password });
      await server.close();
      expect(error).toBeUndefined();
      expect(lines.toSorted()).toEqual(DELIVERED);
      expect(server.messages).toMatchObject([{ secure: true, user: 'me' }, { text: 'Subject: y\r\n\r\n.\r\n' }]);
    });
  }
  test('takes mail after STARTTLS, with and without a user', async () => {
    const server = await serve({ authOptional: true });
    const url = `smtp://localhost:${server.port}`;
    expect(await send({ url })).toMatchObject({ error: undefined });
    expect(await send({ url: url.replace('localhost', 'me@localhost'), password })).toMatchObject({ error: undefined });
    await server.close();
    expect(server.messages.map(({ secure, user }) => [secure, user])).toEqual([
      ...[
        [true, undefined],
        [true, undefined],
      ],
      ...[
        [true, 'me'],
        [true, 'me'],
      ],
    ]);
  });
  test('without STARTTLS gets neither password nor mail', async () => {
    const server = await serve({ hideSTARTTLS: true, allowInsecureAuth: true });
    const { error, lines } = await send({ url: `smtp://me@localhost:${server.port}`, password });
    await server.close();
    expect(error).toMatchObject({ code: 'tls', permanent: true });
    expect(lines).toEqual([]);
    expect(server.messages).toEqual([]);
  });
  test('whose certificate is not trusted, or is for another name, gets nothing', async () => {
    const server = await serve({ secure: true });
    for (const o of [
      { url: `smtps://me@localhost:${server.port}`, ca: [] },
      { url: `smtps://me@127.0.0.1:${server.port}` },
    ]) {
      const { error, lines } = await send({ ...o, password });
      expect(error).toMatchObject({ code: 'tls' });
      expect(lines).toEqual([]);
    }
    await server.close();
    expect(server.messages).toEqual([]);
  });
  test('that refuses the password is told as that', async () => {
    const server = await serve({ secure: true });
    const url = `smtps://me@localhost:${server.port}`;
    const wrong = await send({ url, password: async () => 'hunter2' });
    expect(wrong.error).toMatchObject({ code: 'auth', reply: { code: 535 } });
    expect(JSON.stringify(wrong) + String(wrong.error)).not.toContain('hunter2');
    expect((await send({ url })).error).toMatchObject({ code: 'auth' });
    await server.close();
  });
  test('that speaks between STARTTLS and TLS is not trusted (RFC 3207 §4.2)', async () => {
    const server = createServer((socket) => {
      socket.write('220 hi\r\n');
      socket.on('error', () => {});
      socket.on('data', (chunk: Buffer) => {
        if (chunk.toString().startsWith('EHLO')) socket.write('250-hi\r\n250 STARTTLS\r\n');
        else socket.write('220 go\r\n250-injected\r\n');
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const { error } = await send({ url: `smtp://localhost:${port}` });
    server.close();
    expect(error).toMatchObject({ code: 'tls', message: 'the server spoke before TLS was up' });
  });
  test('that is not there is a fault of the line, and nothing is reported', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise<void>((resolve) => server.close(() => resolve()));
    const { error, lines } = await send({ url: `smtps://localhost:${port}` });
    expect(error).toMatchObject({ name: 'LinkError', code: 'refused', layer: 'tcp' });
    expect(lines).toEqual([]);
  });
});
