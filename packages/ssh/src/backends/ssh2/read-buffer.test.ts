import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { ReadBuffer } from './read-buffer.ts';

const MB = 1024 * 1024;
const open: { destroy(): void }[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.destroy();
});

/** A socket that reads into `reads`, and what feeds it. */
async function pair(reads: ReadBuffer): Promise<{ socket: Socket; peer: Socket }> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', onread: reads.onread });
  reads.feed(socket);
  const [peer] = (await once(server, 'connection')) as [Socket];
  server.close();
  open.push(socket, peer);
  return { socket, peer };
}

/** Bytes that differ from place to place. */
function pattern(length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let at = 0; at < length; at += 4) bytes.writeUInt32LE(at, at);
  return bytes;
}

/** Sends 16 MB through; `each` sees every chunk. Gives how much memory was read into, and what came. */
async function pass(reads: ReadBuffer, each: (chunk: Buffer) => void): Promise<{ memories: number; came: Buffer }> {
  const { socket, peer } = await pair(reads);
  const memories = new Set<ArrayBufferLike>();
  const came = Buffer.alloc(16 * MB);
  let at = 0;
  socket.on('data', (chunk: Buffer) => {
    // Pieces of a shared pool are small reads.
    if (chunk.length >= 32 * 1024) memories.add(chunk.buffer);
    at += chunk.copy(came, at);
    each(chunk);
  });
  peer.end(pattern(16 * MB));
  await once(socket, 'end');
  return { memories: memories.size, came };
}

test('memory is read into again and again when nobody keeps what came', async () => {
  const reads = new ReadBuffer();
  reads.watch(() => false);
  const { memories, came } = await pass(reads, (chunk) => {
    reads.lend(chunk);
    reads.release(chunk);
  });
  expect(memories).toBeLessThanOrEqual(2);
  expect(came.equals(pattern(16 * MB))).toBe(true);
});

test.each([
  ['nobody has said who keeps what', (_: ReadBuffer) => () => {}],
  [
    'what was lent is not released',
    (reads: ReadBuffer) => {
      reads.watch(() => false);
      return (chunk: Buffer) => reads.lend(chunk);
    },
  ],
  [
    'what was lent is released too late',
    (reads: ReadBuffer) => {
      reads.watch(() => false);
      return (chunk: Buffer) => {
        reads.lend(chunk);
        setImmediate(() => reads.release(chunk));
      };
    },
  ],
  [
    'part of it was not lent, and kept',
    (reads: ReadBuffer) => {
      reads.watch(() => true);
      return (chunk: Buffer) => {
        reads.lend(chunk);
        reads.release(chunk);
      };
    },
  ],
])('what came is left alone when %s', async (_name, prepare) => {
  const reads = new ReadBuffer();
  const each = prepare(reads);
  const kept: Buffer[] = [];
  await pass(reads, (chunk) => {
    each(chunk);
    kept.push(chunk);
  });
  expect(Buffer.concat(kept).equals(pattern(16 * MB))).toBe(true);
});

test('what a paused socket holds is left alone', async () => {
  const reads = new ReadBuffer();
  reads.watch(() => false);
  const { socket, peer } = await pair(reads);
  const kept: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => {
    kept.push(Buffer.from(chunk));
    socket.pause();
    setImmediate(() => socket.resume());
  });
  peer.end(pattern(4 * MB));
  await once(socket, 'end');
  expect(Buffer.concat(kept).equals(pattern(4 * MB))).toBe(true);
});
