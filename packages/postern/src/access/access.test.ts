import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { AllowRule } from '../config/schema.ts';
import { createAdmit } from './admit.ts';
import { findPeer, identifyPeer } from './kernel.ts';
import { ensurePassword, passwordFile, rotatePassword, verifyPassword } from './password.ts';
import { type Endpoint, findEstablished } from './proc-net.ts';

const linux = process.platform === 'linux';
const root = process.getuid?.() === 0;
const uid = process.getuid?.() ?? -1;
/** `nobody` on Debian; any uid that is not ours does. */
const OTHER_UID = 65534;

let dir = '';
let server: Server | undefined;
const children: ChildProcess[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'postern-access-'));
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  server?.close();
  rmSync(dir, { recursive: true, force: true });
});

async function listen(host: string): Promise<{ port: number; accepted: Promise<Socket> }> {
  server = createServer();
  const accepted = new Promise<Socket>((resolve) => server?.once('connection', resolve));
  server.listen(0, host);
  await once(server, 'listening');
  return { port: (server.address() as AddressInfo).port, accepted };
}

/** A program of its own that connects, with that uid. `onceConnected` runs when it is connected. */
function client(port: number, o: { host?: string; uid?: number; onceConnected?: string } = {}): void {
  const script = `const s = require('net').connect(${port}, ${JSON.stringify(o.host ?? '127.0.0.1')}, () => { ${o.onceConnected ?? ''} }); s.on('error', () => {})`;
  const child = spawn(process.execPath, ['-e', script], {
    stdio: 'ignore',
    cwd: '/',
    ...(o.uid === undefined ? {} : { uid: o.uid, gid: o.uid }),
  });
  children.push(child);
}

describe.runIf(linux)('the kernel is asked whose a peer is', () => {
  test('a program of ours has our uid', async () => {
    const { port, accepted } = await listen('127.0.0.1');
    client(port);
    expect(await identifyPeer(await accepted)).toEqual({ type: 'user', uid });
  });

  test('over IPv6 as well', async () => {
    const { port, accepted } = await listen('::1');
    client(port, { host: '::1' });
    expect(await identifyPeer(await accepted)).toEqual({ type: 'user', uid });
  });

  test('a v4-mapped client on a v4 listener is found in tcp6', async () => {
    const { port, accepted } = await listen('127.0.0.1');
    client(port, { host: '::ffff:127.0.0.1' });
    expect(await identifyPeer(await accepted)).toEqual({ type: 'user', uid });
  });

  test.runIf(root)("another user's program has another uid", async () => {
    const { port, accepted } = await listen('127.0.0.1');
    client(port, { uid: OTHER_UID });
    expect(await identifyPeer(await accepted)).toEqual({ type: 'user', uid: OTHER_UID });
  });

  test('a socket of our own process is ourselves', async () => {
    const { port, accepted } = await listen('127.0.0.1');
    const own = connect(port, '127.0.0.1');
    expect(await identifyPeer(await accepted)).toEqual({ type: 'ourselves' });
    own.destroy();
  });

  test('one that wrote and closed at once is unknown, not root', async () => {
    const { port, accepted } = await listen('127.0.0.1');
    client(port, { onceConnected: "s.write('x'); s.destroy()" });
    const socket = await accepted;
    socket.pause();
    await once(children[0] as ChildProcess, 'exit');
    expect(await identifyPeer(socket)).toEqual({ type: 'unknown' });
  });
});

describe('rows of /proc/net/tcp', () => {
  const row = (state: string, own = 1000) =>
    `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n` +
    `   3: 0100007F:8C26 0100007F:0477 ${state} 00000000:00000000 00:00000000 00000000  ${own}        0 4711 1 0000000000000000 20 4 30 10 -1\n`;
  const end = (port: number): Endpoint => ({ address: '127.0.0.1', port });
  const find = (tcp: string, from = 35878) => findEstablished(tcp, end(from), end(1143));
  test('an established one is found', () => expect(find(row('01'))).toEqual({ uid: 1000, inode: 4711 }));
  test.each(['04', '05', '06', '08', '0A'])('state %s is not', (state) => expect(find(row(state))).toBeUndefined());
  test('another port is not', () => expect(find(row('01'), 35879)).toBeUndefined());
  test('one socket printed twice is one', () =>
    expect(find(row('01') + row('01'))).toEqual({ uid: 1000, inode: 4711 }));
  test('two rows for one connection are none', () => expect(find(row('01') + row('01', 0))).toBeUndefined());
  test('one that a reading left out is looked for again', async () => {
    const texts = ['', '', row('01')];
    const read = () => Promise.resolve({ text: texts.shift() ?? '', ours: new Set<number>() });
    expect(await findPeer([read, read], end(35878), end(1143))).toEqual({ type: 'user', uid: 1000 });
  });
});

describe('who comes in', () => {
  const judge = (peer: Awaited<ReturnType<typeof identifyPeer>>, ...allow: AllowRule[]) =>
    createAdmit({
      allow: () => allow,
      listener: 'tcp',
      uid: 1000,
      stateDir: dir,
      identify: () => Promise.resolve(peer),
    })({} as Socket);
  const me = { type: 'user', uid: 1000 } as const;
  const other = { type: 'user', uid: 1001 } as const;
  const sameUser = { type: 'same-user' } as const;
  const password = { type: 'password' } as const;
  const exim = { type: 'user', name: 'exim', uid: 1001 } as const;

  test('same-user opens to us alone', async () => {
    expect(await judge(me, sameUser)).toEqual({ type: 'open', who: 'same-user' });
    expect(await judge(other, sameUser)).toMatchObject({ type: 'refused' });
  });
  test('root is another user', async () =>
    expect(await judge({ type: 'user', uid: 0 }, sameUser)).toMatchObject({ type: 'refused' }));
  test('user:NAME opens to that user', async () =>
    expect(await judge(other, sameUser, exim)).toEqual({ type: 'open', who: 'user:exim' }));
  test.each([{ type: 'unknown' }, { type: 'ourselves' }] as const)('%j does not open', async (peer) => {
    expect(await judge(peer, sameUser, exim)).toMatchObject({ type: 'refused' });
    expect(await judge(peer, sameUser, password)).toMatchObject({ type: 'password' });
  });
  test('anyone opens to all', async () =>
    expect(await judge({ type: 'unknown' }, { type: 'anyone' })).toEqual({ type: 'open', who: 'anyone' }));
  test('a Unix socket opens by its file mode', async () => {
    const admit = createAdmit({ allow: () => [], listener: 'unix', uid: 1000, stateDir: dir });
    expect(await admit({} as Socket)).toEqual({ type: 'open', who: 'unix' });
  });
  test('the local password is asked of others, and a rotation counts at once', async () => {
    const old = ensurePassword(dir);
    const admission = await judge(other, sameUser, password);
    if (admission.type !== 'password') throw new Error(admission.type);
    expect([admission.verify(old), admission.verify(`${old}x`), admission.verify('')]).toEqual([true, false, false]);
    const fresh = rotatePassword(dir);
    expect([admission.verify(old), admission.verify(fresh)]).toEqual([false, true]);
  });
});

describe('the local password', () => {
  test('holds 128 bits in a file of our own, and stays', () => {
    const secret = ensurePassword(dir);
    expect(Buffer.from(secret, 'base64url')).toHaveLength(16);
    expect(statSync(passwordFile(dir)).mode & 0o777).toBe(0o600);
    expect(ensurePassword(dir)).toBe(secret);
  });
  test('nothing is right before it is made', () => expect(verifyPassword(dir, '')).toBe(false));
  test('one that others could read is not used', () => {
    const secret = ensurePassword(dir);
    chmodSync(passwordFile(dir), 0o644);
    expect(verifyPassword(dir, secret)).toBe(false);
    expect(() => ensurePassword(dir)).toThrow(/others can read/);
  });
});
