import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import type { Channel } from '@postern/core';
import type { Client } from 'ssh2';
import { expect, test } from 'vitest';
import { readAll } from '../../conformance.test-util.ts';
import type { ConnectionLimits } from '../../connection.ts';
import { recordedLink, resolveRig, startSshRig } from '../../rig.test-util.ts';
import { ALGORITHMS } from './algorithms.ts';
import type { Decipher } from './internals.ts';
import { lendReads } from './lending.ts';
import type { ReadBuffer } from './read-buffer.ts';

const require = createRequire(import.meta.url);
const signal = new AbortController().signal;
const MB = 1024 * 1024;
const BYTES = 24 * MB;
/** Not the same at any distance. */
const NOISE = `seq 1 99999999 | head -c ${BYTES}`;
const exec = (command: string): { type: 'exec'; command: string } => ({ type: 'exec', command });

/** Reads to the end, looks at each chunk once and gives it back. */
async function readAndRelease(channel: Channel): Promise<{ digest: string; memories: number }> {
  const hash = createHash('sha256');
  const memories = new Set<ArrayBufferLike>();
  channel.stream.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    memories.add(chunk.buffer);
    channel.release?.(chunk);
  });
  await once(channel.stream, 'end');
  return { digest: hash.digest('hex'), memories: memories.size };
}

const SERVERS: readonly [string, string[], Partial<ConnectionLimits>][] = [
  ['as they are', [], {}],
  ...(ALGORITHMS.cipher as string[]).map((name): [string, string[], object] => [name, [`Ciphers ${name}`], {}]),
  ['with new keys all the while', ['RekeyLimit 3M'], { rekeyBytes: 2 * MB }],
];

test.each(SERVERS)(
  'beside a reader that gives its chunks back, others keep theirs whole: %s',
  async (_name, config, limits) => {
    await using rig = await startSshRig({ sshd: { config } });
    const { link } = recordedLink(await resolveRig(rig), { limits });
    const open = (): Promise<Channel> => link.open(exec(NOISE), { signal });
    const [one, two, kept] = await Promise.all([open(), open(), open()]);
    const [first, second, bytes] = await Promise.all([readAndRelease(one), readAndRelease(two), readAll(kept)]);
    const digest = createHash('sha256').update(bytes).digest('hex');
    const over = (await readAll(await link.open(exec(`${NOISE} | sha256sum`), { signal }))).toString().slice(0, 64);
    expect([first.digest, second.digest, digest]).toEqual([over, over, over]);
    await link.close();
  },
);

test('what is given back is read into again', async () => {
  const native = require('ssh2/lib/protocol/crypto.js').bindingAvailable;
  await using rig = await startSshRig();
  const { link } = recordedLink(await resolveRig(rig));
  const command = exec(`head -c ${BYTES} /dev/zero`);
  const given = await readAndRelease(await link.open(command, { signal }));
  const channel = await link.open(command, { signal });
  const memories = new Set<ArrayBufferLike>();
  for await (const chunk of channel.stream as AsyncIterable<Buffer>) memories.add(chunk.buffer);
  // Without its addon ssh2 decrypts into memory of its own.
  if (native) expect(given.memories).toBeLessThan(memories.size * 0.75);
  await link.close();
});

/** What `lendReads` touches of a client; `keeps` ends a read. */
function watched(): {
  decipher: Decipher & { _packet: Uint8Array | null };
  keeps: (memory: ArrayBufferLike) => boolean;
} {
  const decipher = { free: () => {}, _onPayload: () => {}, _packet: null };
  let keeps = (_: ArrayBufferLike): boolean => true;
  const reads: Pick<ReadBuffer, 'watch'> = {
    watch(given) {
      keeps = given;
    },
  };
  lendReads({ _protocol: { _onPayload: () => {}, _decipher: decipher } } as unknown as Client, reads as ReadBuffer);
  keeps(new ArrayBuffer(1));
  return { decipher, keeps: (memory) => keeps(memory) };
}

const channelData = Buffer.from([94, 0, 0, 0, 0]);
const memory = new ArrayBuffer(16);

test('a read with nothing but channel data is kept by nobody else', () => {
  const { decipher, keeps } = watched();
  decipher._onPayload?.(channelData);
  expect(keeps(memory)).toBe(false);
});

test('a read with any other packet is kept, and the next is not', () => {
  const { decipher, keeps } = watched();
  decipher._onPayload?.(Buffer.from([20]));
  decipher._onPayload?.(channelData);
  expect(keeps(memory)).toBe(true);
  decipher._onPayload?.(channelData);
  expect(keeps(memory)).toBe(false);
});

test('every read is kept while keys are exchanged, the one that ends it too', () => {
  const { decipher, keeps } = watched();
  const onPayload = decipher._onPayload;
  decipher._onPayload = () => {};
  expect(keeps(memory)).toBe(true);
  decipher._onPayload = onPayload as () => void;
  expect(keeps(memory)).toBe(true);
  expect(keeps(memory)).toBe(false);
});

test('a read is kept whose last packet lacks only its tag', () => {
  const { decipher, keeps } = watched();
  decipher._packet = new Uint8Array(memory);
  expect(keeps(memory)).toBe(true);
  expect(keeps(new ArrayBuffer(16))).toBe(false);
});
