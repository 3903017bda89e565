import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { PosternError } from '../base/errors.ts';
import { callControl } from './client.ts';
import { openControlServer } from './server.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'postern-control-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test('a request is answered, and the socket is ours alone', async () => {
  const path = join(dir, 'c.sock');
  const server = await openControlServer(path, { double: ({ n }) => Number(n) * 2 });
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(await callControl(path, 'double', { n: 21 })).toBe(42);
  await server.close();
  await expect(callControl(path, 'double', { n: 1 })).rejects.toMatchObject({ code: 'unavailable' });
});

test('an answer of many megabytes arrives whole', async () => {
  const path = join(dir, 'c.sock');
  const server = await openControlServer(path, { big: () => 'ä'.repeat(5_000_000) });
  expect(await callControl(path, 'big')).toHaveLength(5_000_000);
  await server.close();
});

test('an array of many elements is made while it is written, and other requests are answered meanwhile', async () => {
  const path = join(dir, 'c.sock');
  let made = 0;
  function* many(): Generator<{ n: number; text: string }> {
    while (made < 20_000) yield { n: made++, text: 'x'.repeat(1000) };
  }
  const server = await openControlServer(path, { many, made: () => made });
  const slow = connect(path);
  slow.pause();
  slow.write('{"method":"many"}\n');
  for (let before = -1, now = 0; now === 0 || now !== before; ) {
    before = now;
    now = Number(await callControl(path, 'made'));
  }
  // Nobody reads: what is made is what the socket holds.
  expect(made).toBeLessThan(10_000);
  slow.destroy();
  made = 0;
  const all = (await callControl(path, 'many')) as { n: number }[];
  expect(all.map(({ n }) => n)).toEqual(Array.from({ length: 20_000 }, (_, n) => n));
  made = 20_000;
  expect(await callControl(path, 'many')).toEqual([]);
  await server.close();
});

test('an array that fails half way is no answer', async () => {
  const path = join(dir, 'c.sock');
  const server = await openControlServer(path, {
    *half() {
      yield 1;
      throw new Error('bad');
    },
  });
  await expect(callControl(path, 'half')).rejects.toMatchObject({ code: 'temporary' });
  await server.close();
});

test('an error keeps its code and its fix; an unknown method is told', async () => {
  const path = join(dir, 'c.sock');
  const server = await openControlServer(path, {
    fail: () => {
      throw new PosternError('no-input', 'no such entry', { fix: 'postern queue' });
    },
  });
  await expect(callControl(path, 'fail')).rejects.toMatchObject({ code: 'no-input', fix: 'postern queue' });
  await expect(callControl(path, 'toString')).rejects.toMatchObject({ code: 'usage' });
  await server.close();
});

test('a socket whose owner is dead is taken over; one that answers is not', async () => {
  const path = join(dir, 'c.sock');
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', script]);
  expect(statSync(path).isSocket()).toBe(true);
  const server = await openControlServer(path, { hi: () => 'hi' });
  expect(await callControl(path, 'hi')).toBe('hi');
  await expect(openControlServer(path, {})).rejects.toMatchObject({ code: 'unavailable' });
  expect(await callControl(path, 'hi')).toBe('hi');
  await server.close();
});

test('a file in the way is left alone', async () => {
  const path = join(dir, 'c.sock');
  writeFileSync(path, 'precious');
  await expect(openControlServer(path, {})).rejects.toMatchObject({ code: 'unavailable' });
  expect(statSync(path).size).toBe(8);
});

test('a connection can be taken over, with what followed the request', async () => {
  const path = join(dir, 'c.sock');
  const server = await openControlServer(path, {
    pipe: () => (socket: Socket, leftover: Buffer) => {
      socket.write(leftover);
      socket.pipe(socket);
    },
  });
  const socket = connect(path);
  socket.write('{"method":"pipe"}\n\xff\n', 'latin1');
  const seen: Buffer[] = [];
  for await (const chunk of socket) {
    if (seen.push(chunk as Buffer) === 1) socket.end(Buffer.from([0xfe, 0x0a]));
  }
  expect(Buffer.concat(seen).toString('latin1')).toBe('{"result":null}\n\xff\n\xfe\n');
  await server.close();
});

test('a request line without end is cut off', async () => {
  const path = join(dir, 'c.sock');
  const server = await openControlServer(path, { hi: () => 'hi' });
  await expect(callControl(path, 'x'.repeat(200_000))).rejects.toBeInstanceOf(PosternError);
  await server.close();
});

test('a daemon that ends in mid-answer is told as such', async () => {
  const path = join(dir, 'c.sock');
  const server = createServer((socket) => socket.once('data', () => socket.end('{"result":')));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  await expect(callControl(path, 'hi')).rejects.toMatchObject({ code: 'temporary' });
  server.close();
});
