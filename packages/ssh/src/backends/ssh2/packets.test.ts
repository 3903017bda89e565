import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { Writable } from 'node:stream';
import type { Channel } from '@postern/core';
import type { Client } from 'ssh2';
import { expect, test } from 'vitest';
import { readAll } from '../../conformance.test-util.ts';
import type { ConnectionLimits } from '../../connection.ts';
import { recordedLink, resolveRig, startSshRig } from '../../rig.test-util.ts';
import { ALGORITHMS } from './algorithms.ts';
import { internalsOf, type PlainCipher } from './internals.ts';
import { reusePackets } from './packets.ts';

const signal = new AbortController().signal;
const MB = 1024 * 1024;

/** Bytes unlike anywhere else, and an odd number of them. */
function noise(seed: number): Buffer {
  const bytes = Buffer.allocUnsafe(16 * MB + 1);
  for (let at = 0; at + 4 <= bytes.length; at += 4) bytes.writeUInt32LE((at * 2_654_435_761 + seed) >>> 0, at);
  return bytes;
}

async function upload(channel: Channel, bytes: Buffer): Promise<string> {
  const said = readAll(channel);
  for (let at = 0; at < bytes.length; at += 100_000) {
    if (!channel.stream.write(bytes.subarray(at, at + 100_000))) await once(channel.stream, 'drain');
  }
  channel.stream.end();
  return (await said).toString().slice(0, 64);
}

const SERVERS: readonly [string, string[], Partial<ConnectionLimits>][] = [
  ...(ALGORITHMS.cipher as string[]).map((name): [string, string[], object] => [name, [`Ciphers ${name}`], {}]),
  ['a MAC of its own over plain text', ['Ciphers aes128-ctr', 'MACs hmac-sha2-256'], {}],
  ['new keys all the while', ['RekeyLimit 3M'], { rekeyBytes: 2 * MB }],
];

test.each(SERVERS)('two uploads at once arrive byte for byte: %s', async (_name, config, limits) => {
  await using rig = await startSshRig({ sshd: { config } });
  const { link } = recordedLink(await resolveRig(rig), { limits });
  const uploads = [noise(1), noise(2)].map(async (bytes) => {
    const channel = await link.open({ type: 'exec', command: 'sha256sum' }, { signal });
    expect(await upload(channel, bytes)).toBe(createHash('sha256').update(bytes).digest('hex'));
  });
  await Promise.all(uploads);
  await link.close();
});

/** A cipher that does nothing, over a socket that takes what is written at once or, told so, never. */
function sending(): { send: (text: string) => Buffer; renew: () => void; taking: { value: boolean } } {
  const taking = { value: true };
  const socket = new Writable({ write: (_chunk, _encoding, done) => taking.value && done() });
  const make = (): PlainCipher => ({
    allocPacket: (length) => {
      const packet = Buffer.alloc(5 + length + 4);
      packet.writeUInt32BE(1 + length + 4, 0);
      packet[4] = 4;
      return packet;
    },
    // In place, as the real ones do.
    encrypt: (packet) => {
      const written = Buffer.from(packet);
      packet.fill(0xff);
      socket.write(written);
    },
    free() {},
  });
  const client = { _protocol: { _cipher: make() } } as unknown as Client;
  reusePackets(client, socket as never);
  return {
    taking,
    renew() {
      (internalsOf(client)._protocol as { _cipher: PlainCipher })._cipher = make();
    },
    send(text) {
      const { _cipher } = internalsOf(client)._protocol;
      const packet = _cipher.allocPacket(text.length);
      expect([packet.readUInt32BE(0), packet[4]]).toEqual([1 + text.length + 4, 4]);
      packet.write(text, 5);
      _cipher.encrypt(packet);
      return packet;
    },
  };
}

test('a large packet is built in the memory of the one before, with its own head', () => {
  const { send, renew } = sending();
  const text = 'x'.repeat(32_768);
  const first = send(text);
  expect(send(text)).toBe(first);
  expect(send(`${text}y`)).not.toBe(first);
  renew();
  const after = send(text);
  expect(after).not.toBe(first);
  expect(send(text)).toBe(after);
});

test('a packet the socket has not taken yet is left alone', () => {
  const { send, taking } = sending();
  const text = 'x'.repeat(32_768);
  const first = send(text);
  taking.value = false;
  expect(send(text)).toBe(first);
  expect(send(text)).not.toBe(first);
});
