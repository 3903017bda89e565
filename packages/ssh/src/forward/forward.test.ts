import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { type Admit, deferred, type Link, systemEnv, type Target } from '@postern/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { reached, recordedLink, resolveRig, type SshRig, startSshRig, temporaryDir } from '../rig.test-util.ts';
import { closedPort, exchange, type Heard, hear, listen, type Served } from './forward.test-util.ts';
import { startForward } from './forward.ts';

let rig: SshRig;
beforeAll(async () => {
  rig = await startSshRig();
  await rig.addSshd({ name: 'strict', config: ['AllowTcpForwarding no', 'AllowStreamLocalForwarding no'] });
  await rig.addSshd({ name: 'picky', config: ['PermitOpen 127.0.0.1:1'] });
});
afterAll(() => rig?.stop());

/** Answers with the digest of all it was sent, once it has been sent all: only half-close makes that possible. */
function digester(socket: Socket): void {
  const hash = createHash('sha256');
  socket.on('data', (chunk) => hash.update(chunk));
  socket.on('end', () => socket.end(hash.digest('hex')));
}

interface Set extends Heard, AsyncDisposable {
  readonly local: Served;
  readonly link: Link;
  sessions(): number;
}

async function set(to: Target, o: { name?: string; admit?: Admit; path?: string } = {}): Promise<Set> {
  const { link } = recordedLink(await resolveRig(rig, {}, o.name));
  const local = await listen(undefined, o.path);
  const heard = hear();
  const forward = startForward({
    server: local.server,
    link,
    to,
    env: systemEnv,
    ...(o.admit === undefined ? {} : { admit: o.admit }),
    onEvent: heard.onEvent,
  });
  return {
    ...heard,
    local,
    link,
    sessions: () => forward.sessions,
    async [Symbol.asyncDispose]() {
      await forward.close();
      await local[Symbol.asyncDispose]();
      await link.close();
    },
  };
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
    await using it = await set({ type: 'tcp', host: '127.0.0.1', port: await closedPort() });
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
