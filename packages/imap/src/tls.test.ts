import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, createSecureContext, type SecureContext } from 'node:tls';
import { systemEnv } from '@postern/core';
import { memoryLink } from '@postern/testkit';
import { makeCertificate } from '@postern/testkit/rig';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { dial, hangUpAll, listen, type TestClient, testClient } from './client.test-util.ts';
import type { EndpointTls } from './connection.ts';
import { createEndpoint } from './endpoint.ts';
import type { ImapEvent } from './event.ts';
import { createImapd } from './imapd.ts';

let secureContext: SecureContext;
let ca: Buffer;
const cleanups: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  const dir = mkdtempSync(join(tmpdir(), 'tls-'));
  const made = await makeCertificate({ dir, names: ['DNS:localhost', 'IP:127.0.0.1'] });
  ca = made.cert;
  secureContext = createSecureContext(made);
  rmSync(dir, { recursive: true });
});
afterEach(async () => {
  hangUpAll();
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function serve(mode: EndpointTls['mode']): Promise<{ port: number; events: ImapEvent[] }> {
  const events: ImapEvent[] = [];
  const link = memoryLink((_target, pair) => {
    const far = testClient(pair.far);
    far.send('* PREAUTH [CAPABILITY IMAP4rev1 X-FAR] hello\r\n');
    const loop = async (): Promise<void> => {
      for (;;) {
        const [tag, name] = (await far.line()).split(' ');
        if (name === 'BIG') far.send('x'.repeat(5_000_000));
        far.send(`${tag} OK did ${name}\r\n`);
      }
    };
    loop().catch(() => pair.exit({ type: 'exit', code: 0 }));
  });
  const imapd = createImapd({ link, command: 'imapd', spare: 0, env: systemEnv });
  const { server, port } = await listen();
  const endpoint = createEndpoint({
    server,
    imapd,
    admit: async () => ({ type: 'open', who: 'same-user' }),
    env: systemEnv,
    tls: { mode, secureContext: () => secureContext },
    onEvent: (event) => events.push(event),
  });
  cleanups.push(
    () => new Promise((resolve) => server.close(resolve)),
    () => imapd.close(),
    () => endpoint.close(),
  );
  return { port, events };
}

async function secured(port: number): Promise<TestClient> {
  const plain = await dial(port);
  plain.socket.removeAllListeners('data');
  const socket = connect({ socket: plain.socket, ca, servername: 'localhost', allowHalfOpen: true } as object);
  const client = testClient(socket);
  await once(socket, 'secureConnect');
  return client;
}

/** Speaks plain up to STARTTLS, then TLS. */
async function started(port: number, command = 'a STARTTLS\r\n'): Promise<TestClient> {
  const plain = await dial(port);
  await plain.line();
  plain.send(command);
  expect(await plain.line()).toBe('a OK Begin TLS now');
  plain.socket.removeAllListeners('data');
  const socket = connect({ socket: plain.socket, ca, servername: 'localhost' });
  const client = testClient(socket);
  await once(socket, 'secureConnect');
  return client;
}

const LOGGED_IN = 'l OK [CAPABILITY IMAP4rev1 X-FAR] Logged in';

describe('implicit TLS', () => {
  test('carries a whole session over a certificate that validates', async () => {
    const client = await secured((await serve('implicit')).port);
    expect(await client.line()).toBe('* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID AUTH=PLAIN] Postern ready');
    client.send('l LOGIN bob pw\r\nb NOOP\r\nc BIG\r\n');
    expect(await client.line()).toBe(LOGGED_IN);
    expect(await client.line()).toBe('b OK did NOOP');
    expect((await client.line()).length).toBe(5_000_000 + 'c OK did BIG'.length);
    client.socket.end();
    expect(await client.rest()).toBe('');
  });

  test('gives a plain client nothing', async () => {
    const { port, events } = await serve('implicit');
    const client = await dial(port);
    client.send('a LOGIN bob pw\r\n');
    await expect(client.line()).rejects.toThrow();
    expect(events.map((event) => event.type)).toEqual(['refused']);
  });
});

describe('STARTTLS', () => {
  test('comes before any login', async () => {
    const { port } = await serve('starttls');
    const client = await dial(port);
    expect(await client.line()).toBe(
      '* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID STARTTLS LOGINDISABLED] Postern ready',
    );
    client.send('l LOGIN bob pw\r\n');
    expect(await client.line()).toBe('l NO [PRIVACYREQUIRED] STARTTLS first');
  });

  test('starts again without a greeting, and then a login goes through', async () => {
    const client = await started((await serve('starttls')).port);
    client.send('a CAPABILITY\r\nl LOGIN bob pw\r\nb NOOP\r\n');
    expect(await client.until('b ')).toEqual([
      '* CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID AUTH=PLAIN',
      'a OK Capabilities listed',
      LOGGED_IN,
      'b OK did NOOP',
    ]);
  });

  test('throws away what somebody put behind it in plain', async () => {
    const client = await started((await serve('starttls')).port, 'a STARTTLS\r\nx LOGIN mallory pw\r\ny NOOP\r\n');
    client.send('b NOOP\r\n');
    expect(await client.line()).toBe('b OK Nothing done');
  });

  test('followed by no TLS at all ends the connection, and is not taken for plain', async () => {
    const { port, events } = await serve('starttls');
    const client = await dial(port);
    client.send('a STARTTLS\r\n');
    await client.until('a OK');
    client.send('b LOGIN bob pw\r\n');
    await client.rest().catch(() => '');
    expect(events.map((event) => event.type)).toEqual(['refused']);
  });
});
