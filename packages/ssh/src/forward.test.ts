import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type NetConnectOpts, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { type Admit, deferred, systemEnv, type Target } from '@postern/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startForward } from './forward.ts';
import type { ForwardEvent } from './forward-event.ts';
import { reached, recordedLink, resolveRig, type SshRig, startSshRig, temporaryDir } from './rig.test-util.ts';

let rig: SshRig;
beforeAll(async () => {
  rig = await startSshRig();
  await rig.addSshd({ name: 'strict', config: ['AllowTcpForwarding no', 'AllowStreamLocalForwarding no'] });
  await rig.addSshd({ name: 'picky', config: ['PermitOpen 127.0.0.1:1'] });
});
afterAll(() => rig?.stop());

interface Served extends AsyncDisposable {
  readonly server: Server;
  readonly port: number;
}

/** A listener that allows half-open, on loopback or at a path. */
async function listen(onSocket?: (socket: Socket) => void, path?: string): Promise<Served> {
  const server = createServer({ allowHalfOpen: true }, onSocket);
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
  });
  if (path === undefined) server.listen(0, '127.0.0.1');
  else server.listen(path);
  await once(server, 'listening');
  const address = server.address();
  return {
    server,
    port: address !== null && typeof address === 'object' ? address.port : 0,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Answers with the digest of all it was sent, once it has been sent all: only half-close makes that possible. */
function digester(socket: Socket): void {
  const hash = createHash('sha256');
  socket.on('data', (chunk) => hash.update(chunk));
  socket.on('end', () => socket.end(hash.digest('hex')));
}

async function set(
  to: Target,
  o: { name?: string; admit?: Admit; path?: string } = {},
): Promise<
  {
    local: Served;
    events: ForwardEvent[];
    next(type: ForwardEvent['type']): Promise<ForwardEvent>;
    sessions(): number;
    link: ReturnType<typeof recordedLink>['link'];
  } & AsyncDisposable
> {
  const { link } = recordedLink(await resolveRig(rig, {}, o.name));
  const local = await listen(undefined, o.path);
  const events: ForwardEvent[] = [];
  const waiting: { type: string; resolve(event: ForwardEvent): void }[] = [];
  const forward = startForward({
    server: local.server,
    link,
    to,
    env: systemEnv,
    ...(o.admit === undefined ? {} : { admit: o.admit }),
    onEvent(event) {
      events.push(event);
      for (const waiter of waiting) if (waiter.type === event.type) waiter.resolve(event);
    },
  });
  return {
    local,
    events,
    link,
    sessions: () => forward.sessions,
    next(type) {
      const { promise, resolve } = deferred<ForwardEvent>();
      const there = events.find((event) => event.type === type);
      if (there !== undefined) resolve(there);
      waiting.push({ type, resolve });
      return promise;
    },
    async [Symbol.asyncDispose]() {
      await forward.close();
      await local[Symbol.asyncDispose]();
      await link.close();
    },
  };
}

/** Sends, half-closes, and reads the answer; rejects with the socket's error. */
function exchange(at: NetConnectOpts, bytes: string | Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ ...at, allowHalfOpen: true });
    const chunks: Buffer[] = [];
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('end', () => resolve(Buffer.concat(chunks).toString('latin1')));
    socket.on('error', reject);
    socket.end(bytes);
  });
}

const BULK = Buffer.alloc(4 * 1024 * 1024, 'half-close keeps what was said ');
const DIGEST = createHash('sha256').update(BULK).digest('hex');

describe('a forward through a real sshd', () => {
  test('carries TCP, half-close included', async () => {
    await using far = await listen(digester);
    await using it = await set({ type: 'tcp', host: '127.0.0.1', port: far.port });
    const answers = await Promise.all([1, 2, 3].map(() => exchange({ port: it.local.port }, BULK)));
    expect(answers).toEqual([DIGEST, DIGEST, DIGEST]);
    expect(await it.next('forward-close')).toMatchObject({ exit: { type: 'closed' } });
  });

  test('carries a Unix socket to a Unix socket', async () => {
    await using dir = await temporaryDir();
    const path = join(rig.home, 'far.sock');
    await using far = await listen(digester, path);
    expect(far.port).toBe(0);
    await import('node:fs/promises').then((fs) => fs.chmod(path, 0o777));
    await using it = await set({ type: 'unix', path }, { path: join(dir.path, 's') });
    expect(await exchange({ path: join(dir.path, 's') }, BULK)).toBe(DIGEST);
    expect(it.events[0]?.type).toBe('forward-open');
  });

  test('leads to a command, and tells how it ended', async () => {
    await using it = await set({ type: 'exec', command: 'cat; echo bye >&2; exit 3' });
    expect(await exchange({ port: it.local.port }, 'hello')).toBe('hello');
    expect(await it.next('forward-close')).toMatchObject({ exit: { type: 'exit', code: 3 }, stderr: 'bye\n' });
  });

  test('ends the peer when the far command has ended', async () => {
    await using it = await set({ type: 'exec', command: 'echo done' });
    const socket = connect({ port: it.local.port, host: '127.0.0.1', allowHalfOpen: true });
    socket.on('error', () => {});
    socket.resume();
    await once(socket, 'end');
    await it.next('forward-close');
    expect(it.sessions()).toBe(0);
    socket.destroy();
  });

  test('tells a refusal of forwarding from an empty answer, and names the command that works instead', async () => {
    await using far = await listen(digester);
    const to: Target = { type: 'tcp', host: '127.0.0.1', port: far.port };
    await using it = await set(to, { name: 'strict' });
    await expect(exchange({ port: it.local.port }, 'x')).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(await it.next('forward-refused')).toMatchObject({
      error: { code: 'channel-refused', layer: 'channel' },
      fix: `let a command connect instead:  to = "netcat 127.0.0.1 ${far.port}"`,
    });
    await using instead = await set({ type: 'exec', command: `netcat 127.0.0.1 ${far.port}` }, { name: 'strict' });
    const socket = connect({ port: instead.local.port, host: '127.0.0.1' });
    await instead.next('forward-open');
    expect(instead.sessions()).toBe(1);
    socket.destroy();
  });

  test('tells that PermitOpen forbids it', async () => {
    await using far = await listen(digester);
    await using it = await set({ type: 'tcp', host: '127.0.0.1', port: far.port }, { name: 'picky' });
    await expect(exchange({ port: it.local.port }, 'x')).rejects.toMatchObject({ code: 'ECONNRESET' });
    const event = await it.next('forward-refused');
    expect(event).toHaveProperty('fix');
    expect(String((event as { error?: Error }).error?.message)).toMatch(/forbids/);
  });

  test('forbidden sockets too', async () => {
    await using it = await set({ type: 'unix', path: join(rig.home, 'x.sock') }, { name: 'strict' });
    await expect(exchange({ port: it.local.port }, 'x')).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(await it.next('forward-refused')).toMatchObject({ fix: expect.stringContaining('netcat -U ') });
  });

  test('tells that nothing listens over there', async () => {
    const port = await listen().then(async (it) => {
      await it[Symbol.asyncDispose]();
      return it.port;
    });
    await using it = await set({ type: 'tcp', host: '127.0.0.1', port });
    await expect(exchange({ port: it.local.port }, 'x')).rejects.toMatchObject({ code: 'ECONNRESET' });
    const event = await it.next('forward-refused');
    expect(event).toMatchObject({ error: { code: 'channel-refused' } });
    expect(event).not.toHaveProperty('fix');
  });

  test('lets nobody in whom the judge refuses, nor one who would need a password', async () => {
    const judgements: Awaited<ReturnType<Admit>>[] = [
      { type: 'refused', reason: 'uid 33' },
      { type: 'password', verify: () => true },
    ];
    await using it = await set(
      { type: 'exec', command: 'cat' },
      { admit: async () => judgements.shift() ?? { type: 'open', who: 'same-user' } },
    );
    await expect(exchange({ port: it.local.port }, 'x')).rejects.toMatchObject({ code: 'ECONNRESET' });
    await expect(exchange({ port: it.local.port }, 'x')).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(it.link.state.type).toBe('idle');
    expect(await exchange({ port: it.local.port }, 'third')).toBe('third');
    expect(it.events.filter((event) => event.type === 'forward-denied').map((event) => event.reason)).toEqual([
      'uid 33',
      'a forward has no place for a password',
    ]);
  });

  test('a lost link resets the peer, and the next connection finds a new link', async () => {
    await using it = await set({ type: 'exec', command: 'cat' });
    const socket = connect({ port: it.local.port, host: '127.0.0.1' });
    const reset = new Promise((resolve) => socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code)));
    socket.write('first');
    await once(socket, 'data');
    await rig.ssh.dropConnections();
    expect(await reset).toBe('ECONNRESET');
    await reached(it.link, 'up');
    expect(await exchange({ port: it.local.port }, 'second')).toBe('second');
  });

  test('a peer that vanishes ends its channel', async () => {
    const gone = deferred<void>();
    await using far = await listen((socket) => {
      socket.resume();
      socket.on('end', () => gone.resolve());
    });
    await using it = await set({ type: 'tcp', host: '127.0.0.1', port: far.port });
    const socket = connect({ port: it.local.port, host: '127.0.0.1' });
    await it.next('forward-open');
    socket.resetAndDestroy();
    await gone.promise;
    expect(await it.next('forward-close')).toMatchObject({ exit: { type: 'lost' } });
  });
});
