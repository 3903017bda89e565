import { createServer } from 'node:net';
import { type Admission, LinkError, systemEnv, type Target } from '@postern/core';
import { type ChannelPair, type MemoryLink, settle, virtualEnv } from '@postern/testkit';
import { afterEach, describe, expect, test } from 'vitest';
import { dial, hangUpAll, listen, type TestClient, testClient } from './client.test-util.ts';
import { attachPreauth, createEndpoint, type EndpointOptions } from './endpoint.ts';
import type { ImapEvent } from './event.ts';
import { waitingLink } from './far.test-util.ts';
import { createImapd, type ImapdOptions } from './imapd.ts';
import { MAX_SESSIONS_PER_PEER } from './limits.ts';

const GREETING = '* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN IDLE X-FAR] Logged in as bob\r\n';
const OPEN: Admission = { type: 'open', who: 'same-user' };

/** A far imapd in a few lines: greets, answers each command with OK, knows LOGOUT. */
function imapdOf(pair: ChannelPair, greeting = GREETING): void {
  const far = testClient(pair.far);
  far.send(greeting);
  const loop = async (): Promise<void> => {
    for (;;) {
      const [tag = '', ...words] = (await far.line()).split(' ');
      if (words[0] === 'CAPABILITY') far.send('* CAPABILITY IMAP4rev1 ASKED\r\n');
      if (words[0] === 'LOGOUT') far.send('* BYE bye\r\n');
      far.send(`${tag} OK did ${words.join(' ')}\r\n`);
      if (words[0] !== 'LOGOUT') continue;
      pair.exit({ type: 'exit', code: 0 });
      return;
    }
  };
  loop().catch(() => pair.exit({ type: 'exit', code: 0 }));
}

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  hangUpAll();
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

type Far = (pair: ChannelPair, target: Target) => void;
type Setup = { far?: Far; admission?: Admission } & Partial<Omit<EndpointOptions, 'server' | 'imapd' | 'admit'>> &
  Partial<Pick<ImapdOptions, 'command' | 'spare' | 'keepaliveMs'>>;

async function start(o: Setup = {}): Promise<{
  port: number;
  link: MemoryLink;
  pairs: ChannelPair[];
  events: ImapEvent[];
  endpoint: ReturnType<typeof createEndpoint>;
  imapd: ReturnType<typeof createImapd>;
  login(): Promise<TestClient>;
}> {
  const events: ImapEvent[] = [];
  const pairs: ChannelPair[] = [];
  const link = waitingLink((target, pair) => {
    pairs.push(pair);
    (o.far ?? ((it) => imapdOf(it)))(pair, target);
  });
  const onEvent = (event: ImapEvent): void => void events.push(event);
  const env = o.env ?? systemEnv;
  const { spare = 0, command = 'imapd', keepaliveMs = 5000 } = o;
  const imapd = createImapd({ link, command, spare, keepaliveMs, env, onEvent });
  const { server, port } = await listen();
  const endpoint = createEndpoint({ ...o, server, imapd, env, onEvent, admit: async () => o.admission ?? OPEN });
  cleanups.push(
    () => new Promise((resolve) => server.close(resolve)),
    () => imapd.close(),
    () => endpoint.close(),
  );
  const login = async (): Promise<TestClient> => {
    const client = await dial(port);
    client.send('a LOGIN bob pw\r\n');
    await client.until('a OK');
    return client;
  };
  return { port, link, pairs, events, endpoint, imapd, login };
}

describe('a login', () => {
  test('is answered with the far capabilities, and then nothing is touched', async () => {
    const { port, events } = await start();
    const client = await dial(port);
    expect(await client.line()).toBe('* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID AUTH=PLAIN] Postern ready');
    client.send('a LOGIN bob secret\r\nb SELECT INBOX\r\nc LOGOUT\r\n');
    expect(await client.line()).toBe('a OK [CAPABILITY IMAP4rev1 IDLE X-FAR] Logged in');
    expect(await client.rest()).toBe('b OK did SELECT INBOX\r\n* BYE bye\r\nc OK did LOGOUT\r\n');
    expect(events).toContainEqual(
      expect.objectContaining({ type: 'login', who: 'same-user', user: 'bob', host: 'gate' }),
    );
    expect(JSON.stringify(events)).not.toContain('secret');
  });

  test('asks for the capabilities when the greeting has none, and the client sees no answer to that', async () => {
    const { port } = await start({ far: (pair) => imapdOf(pair, '* OK [ALERT] hm\r\n* PREAUTH Ready.\r\n') });
    const client = await dial(port);
    client.send('a LOGIN bob pw\r\nb NOOP\r\n');
    expect((await client.until('b ')).slice(1)).toEqual([
      'a OK [CAPABILITY IMAP4rev1 ASKED] Logged in',
      'b OK did NOOP',
    ]);
  });

  test('half-closed right behind its pipelined commands still gets every answer', async () => {
    const { port } = await start();
    const client = await dial(port);
    client.socket.end('a LOGIN bob pw\r\nb NOOP\r\n');
    expect(await client.rest()).toMatch(/a OK .*\r\nb OK did NOOP\r\n$/);
  });

  test('half-closed while its session is being opened goes on, and the answer to EOF comes through', async () => {
    const { port, pairs } = await start({ far: () => {} });
    const client = await dial(port);
    client.socket.end('a LOGIN bob pw\r\nb NOOP\r\n');
    await expect.poll(() => pairs.length).toBe(1);
    await settle();
    const far = testClient((pairs[0] as ChannelPair).far);
    far.send(GREETING);
    const [tag] = (await far.line()).split(' ');
    far.send(`${tag} OK asked\r\n`);
    expect(await far.rest()).toBe('b NOOP\r\n');
    await settle();
    far.send('b OK after EOF\r\n');
    pairs[0]?.exit({ type: 'exit', code: 0 });
    expect(await client.rest()).toMatch(/a OK .*\r\nb OK after EOF\r\n$/);
  });

  test('needs the local password where one is asked for, which never leaves', async () => {
    const sent: string[] = [];
    const { port, pairs } = await start({
      admission: { type: 'password', verify: (given) => given === 'right' },
      far: (pair) => {
        pair.far.on('data', (chunk) => sent.push(String(chunk)));
        imapdOf(pair);
      },
    });
    const client = await dial(port);
    await client.line();
    client.send('a LOGIN bob wrong\r\n');
    expect(await client.line()).toBe('a NO [AUTHENTICATIONFAILED] Wrong password');
    expect(pairs.length).toBe(0);
    client.send('b LOGIN bob right\r\nc NOOP\r\n');
    expect((await client.until('c OK'))[0]).toMatch(/^b OK/);
    expect(sent.join('')).not.toMatch(/right|wrong/);
  });

  test('picks its host by the login name', async () => {
    const { imapd, port: _port } = await start();
    const { server, port } = await listen();
    const endpoint = createEndpoint({
      server,
      imapd: (user) => (user === 'gate' ? imapd : undefined),
      admit: async () => OPEN,
      env: systemEnv,
    });
    cleanups.push(
      () => new Promise((resolve) => server.close(resolve)),
      () => endpoint.close(),
    );
    const client = await dial(port);
    client.send('a LOGIN nowhere pw\r\nb LOGIN gate pw\r\n');
    expect((await client.until('b OK')).slice(1)).toEqual([
      'a NO [AUTHENTICATIONFAILED] The login name must be the name of a host',
      'b OK [CAPABILITY IMAP4rev1 IDLE X-FAR] Logged in',
    ]);
  });
});

describe('who may not come in', () => {
  test('a refused peer is closed before the banner', async () => {
    const { port, events } = await start({ admission: { type: 'refused', reason: 'uid 4711' } });
    expect(await (await dial(port)).rest()).toBe('');
    expect(events).toEqual([{ type: 'refused', peer: expect.any(String), reason: 'uid 4711' }]);
  });

  test.each([
    ['a browser', 'GET / HTTP/1.1\r\n'],
    ['a NUL', '\0'],
    ['an endless line', 'x'.repeat(10_000)],
    ['endless commands', 'a NOOP\r\n'.repeat(2000)],
  ])('%s is closed at once, with FIN and no reset', async (_what, input) => {
    const { port, events } = await start();
    const client = await dial(port);
    client.send(input);
    await client.rest();
    expect(events.map((event) => event.type)).toEqual(['refused']);
  });

  test.each([
    ['that waits is refused by name', 'a LOGIN {1000000}\r\nb LOGOUT\r\n', /^a NO \[TOOBIG\]/m],
    ['that does not wait ends the session', 'a LOGIN {1000000+}\r\n', /^\* BYE \[TOOBIG\]/m],
  ])('a giant literal %s', async (_what, input, said) => {
    const { port } = await start();
    const client = await dial(port);
    client.send(input);
    expect(await client.rest()).toMatch(said);
  });

  test('one peer has room for 512 connections, and the next is told so', async () => {
    const { port, endpoint } = await start();
    const clients = await Promise.all(Array.from({ length: MAX_SESSIONS_PER_PEER }, () => dial(port)));
    for (const client of clients) expect(await client.line()).toMatch(/^\* OK/);
    const more = await dial(port);
    expect(await more.rest()).toBe('* BYE [LIMIT] Too many connections\r\n');
    for (const client of clients) client.socket.destroy();
    await expect.poll(() => endpoint.sessions).toBe(0);
    expect(await (await dial(port)).line()).toMatch(/^\* OK/);
  });

  test('who does not log in within ten minutes is told so and closed', async () => {
    const env = virtualEnv();
    const { port } = await start({ env });
    const client = await dial(port);
    await client.line();
    await env.advance(10 * 60_000 - 1);
    client.send('a NOOP\r\n');
    expect(await client.line()).toBe('a OK Nothing done');
    await env.advance(1);
    expect(await client.rest()).toMatch(/^\* BYE /);
  });

  test('a logged-in client may stay silent longer than that', async () => {
    const env = virtualEnv();
    const { login } = await start({ env });
    const client = await login();
    await env.advance(60 * 60_000);
    client.send('b NOOP\r\n');
    expect(await client.line()).toBe('b OK did NOOP');
  });
});

describe('a far side that is no imapd in PREAUTH mode', () => {
  const say =
    (text: string): Far =>
    (pair) =>
      void pair.far.write(text);
  test.each<[string, Far, string]>([
    [
      'wants a login',
      say('* OK ready\r\n'),
      'a NO [CONTACTADMIN] "imapd" on gate wants a login instead of greeting with PREAUTH: "* OK ready"',
    ],
    ['refuses', say('* BYE full\r\n'), 'a NO [CONTACTADMIN] "imapd" on gate refused: "* BYE full"'],
    ['never stops', say('y'.repeat(2 ** 20)), 'a NO [CONTACTADMIN] "imapd" on gate does not speak IMAP: "yyy'],
    [
      'is missing',
      (pair) => {
        pair.stderr(Buffer.from('sh: 1: imapd: \x1b[1mnot found\n'));
        pair.exit({ type: 'exit', code: 127 });
      },
      'a NO [CONTACTADMIN] "imapd" on gate ended with status 127 before its greeting: sh: 1: imapd: \\x1b[1mnot found',
    ],
    [
      'dies after its greeting',
      (pair) => {
        pair.far.write(GREETING);
        pair.stderr(Buffer.from('HOME not set\n'));
        pair.exit({ type: 'exit', code: 89 });
      },
      'a NO [UNAVAILABLE] "imapd" on gate ended with status 89 right after its greeting: HOME not set',
    ],
    [
      'has no such subsystem',
      () => {
        throw new LinkError('gate refused the channel', { code: 'channel-refused', layer: 'channel' });
      },
      'a NO [UNAVAILABLE] gate refused the channel',
    ],
  ])('that %s is a tagged NO with a reason, and the client may try again', async (_what, far, want) => {
    const { port } = await start({ far });
    const client = await dial(port);
    await client.line();
    client.send('a LOGIN bob pw\r\n');
    expect((await client.line()).slice(0, want.length)).toBe(want);
    client.send('b NOOP\r\n');
    expect(await client.line()).toBe('b OK Nothing done');
  });

  test('silence is a NO after ten seconds', async () => {
    const env = virtualEnv();
    const { port, pairs } = await start({ env, far: say('Welcome\r\n') });
    const client = await dial(port);
    await client.line();
    client.send('a LOGIN bob pw\r\nb NOOP\r\n');
    while (pairs.length === 0) await settle();
    await env.advance(10_000);
    expect(await client.line()).toBe(
      'a NO [UNAVAILABLE] "imapd" on gate said "Welcome" and no PREAUTH greeting in 10 s',
    );
    expect(await client.line()).toBe('b OK Nothing done');
    expect((await pairs[0]?.channel.exit)?.type).toBe('lost');
  });
});

describe('the link', () => {
  const DOWN = new LinkError('gate does not answer', { code: 'unreachable', layer: 'tcp' });

  test('lost in a session is BYE and FIN', async () => {
    const { link, login, events } = await start();
    const client = await login();
    link.setState({ type: 'down', error: DOWN });
    expect(await client.rest()).toBe('* BYE [UNAVAILABLE] gate does not answer\r\n');
    client.socket.end();
    await expect.poll(() => events.at(-1)).toMatchObject({ type: 'ended', why: 'lost' });
  });

  test('lost in the middle of a line is only FIN, so that no message text is made up', async () => {
    const { link, login, pairs } = await start();
    const client = await login();
    pairs[0]?.far.write('* 1 FETCH (BODY[] {50}\r\nhalf');
    await client.line();
    await settle();
    link.setState({ type: 'down', error: DOWN });
    expect(await client.rest()).toBe('half');
  });

  test('down at login is dialled at once, and a login within 20 s goes through', async () => {
    const env = virtualEnv();
    const { link, port } = await start({ env });
    link.setState({ type: 'down', error: DOWN });
    const client = await dial(port);
    await client.line();
    client.send('a LOGIN bob pw\r\nb NOOP\r\n');
    while (link.wakes.length === 0) await settle();
    expect(link.wakes).toEqual(['login']);
    await env.advance(19_000);
    link.setState({ type: 'up' });
    expect((await client.until('b OK')).length).toBe(2);
  });

  test('down for 20 s is a BYE, since a NO would make clients forget the password', async () => {
    const env = virtualEnv();
    const { link, port } = await start({ env });
    link.setState({ type: 'down', error: DOWN });
    const client = await dial(port);
    await client.line();
    client.send('a LOGIN bob pw\r\n');
    while (link.wakes.length === 0) await settle();
    await env.advance(20_000);
    expect(await client.rest()).toBe('* BYE [UNAVAILABLE] no link to gate within 20 s: gate does not answer\r\n');
  });

  test('with a host key that changed is a BYE at once', async () => {
    const { link, port } = await start();
    const error = new LinkError('host key of gate changed', { code: 'hostkey-changed', layer: 'hostkey' });
    link.setState({ type: 'down', error });
    const client = await dial(port);
    client.send('a LOGIN bob pw\r\n');
    expect(await client.rest()).toMatch(/\* BYE \[UNAVAILABLE\] host key of gate changed\r\n$/);
  });
});

describe('a session', () => {
  test('ended by the client frees the far side', async () => {
    const { login, pairs, endpoint } = await start();
    const client = await login();
    client.socket.destroy();
    expect((await pairs[0]?.channel.exit)?.type).toMatch(/exit|lost/);
    await expect.poll(() => endpoint.sessions).toBe(0);
  });

  test('a client that leaves while its session is being opened leaves nothing behind', async () => {
    const { port, pairs, endpoint } = await start({ far: () => {} });
    const client = await dial(port);
    client.send('a LOGIN bob pw\r\n');
    await expect.poll(() => pairs.length).toBe(1);
    client.socket.resetAndDestroy();
    expect((await pairs[0]?.channel.exit)?.type).toBe('lost');
    await expect.poll(() => endpoint.sessions).toBe(0);
  });

  test('gets BYE when the endpoint closes, logged in or not', async () => {
    const { login, port, endpoint } = await start();
    const [inside, outside] = [await login(), await dial(port)];
    await outside.line();
    const closing = endpoint.close();
    for (const client of [inside, outside]) {
      expect(await client.rest()).toBe('* BYE [UNAVAILABLE] Postern is shutting down\r\n');
      client.socket.end();
    }
    await closing;
  });

  test('slow to read holds the far side back', async () => {
    const { login, pairs } = await start();
    const client = await login();
    client.socket.pause();
    const far = pairs[0]?.far;
    let written = 0;
    const block = Buffer.alloc(65536, 'x');
    while (far?.write(block) === true || written < 64 * 65536) {
      written += block.length;
      await settle();
      if ((far?.writableLength ?? 0) > 0) break;
    }
    const held = far?.writableLength ?? 0;
    await settle();
    expect(far?.writableLength).toBe(held);
    expect(held).toBeGreaterThan(0);
    expect(written).toBeLessThan(64 * 2 ** 20);
  });
});

describe('PREAUTH for tunnels', () => {
  test('a Unix-socket client gets the far greeting itself', async () => {
    const { port } = await start({ preauth: true });
    const client = await dial(port);
    expect(`${await client.line()}\r\n`).toBe(GREETING);
    client.send('a LOGOUT\r\n');
    expect(await client.rest()).toBe('* BYE bye\r\na OK did LOGOUT\r\n');
  });

  test('a pipe gets it too, and BYE when there is none', async () => {
    const { imapd } = await start();
    const serve = async (): Promise<[TestClient, Promise<Error | undefined>]> => {
      const server = createServer({ allowHalfOpen: true });
      server.listen(0, '127.0.0.1');
      const accepted = new Promise<Parameters<typeof attachPreauth>[0]>((resolve) =>
        server.once('connection', resolve),
      );
      await new Promise((resolve) => server.once('listening', resolve));
      const address = server.address();
      const client = await dial(typeof address === 'object' && address !== null ? address.port : 0);
      server.close();
      const signal = new AbortController().signal;
      return [client, attachPreauth(await accepted, { imapd, env: systemEnv, signal })];
    };
    const [first, over] = await serve();
    expect(`${await first.line()}\r\n`).toBe(GREETING);
    first.socket.end();
    expect(await over).toBeUndefined();
    await imapd.close();
    const [second, failed] = await serve();
    expect(await second.line()).toBe('* BYE [UNAVAILABLE] gate is no longer served');
    second.socket.end();
    expect((await failed)?.message).toBe('gate is no longer served');
  });
});
