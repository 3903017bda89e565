import { createRequire } from 'node:module';
import { PassThrough } from 'node:stream';
import ssh2 from 'ssh2';
import { expect, test } from 'vitest';
import { ALGORITHMS } from './algorithms.ts';
import { BASE_WINDOW_BYTES, type Decipher, internalsOf, type PlainCipher } from './internals.ts';

const require = createRequire(import.meta.url);

test('ssh2 is exactly the version whose insides are known', () => {
  expect(require('ssh2/package.json').version).toBe('1.17.0');
  expect(require('../../../package.json').dependencies.ssh2).toBe('1.17.0');
});

test('the protocol has what is called on it', () => {
  const Protocol = require('ssh2/lib/protocol/Protocol.js');
  for (const name of ['ping', 'rekey', 'signal', 'session', 'channelWindowAdjust']) {
    expect(Protocol.prototype[name], name).toBeTypeOf('function');
  }
  expect(ssh2.Client).toBe(require('ssh2/lib/client.js'));
});

test('a client has what is taken over from it', () => {
  const client = new ssh2.Client();
  const socket = new PassThrough();
  client.on('error', () => {});
  client.connect({ sock: socket as never, username: 'x', readyTimeout: 0 });
  const { _callbacks, _chanMgr, _protocol } = internalsOf(client);
  expect(_callbacks).toEqual([]);
  expect(_chanMgr.get(0)).toBeUndefined();
  expect(Object.keys(_protocol._handlers)).toEqual(expect.arrayContaining(['CHANNEL_DATA', 'USERAUTH_FAILURE']));
  socket.destroy();
});

test('the window is what is assumed of it', () => {
  const channel = require('ssh2/lib/Channel.js');
  expect([channel.MAX_WINDOW, channel.WINDOW_THRESHOLD, channel.PACKET_SIZE]).toEqual([
    BASE_WINDOW_BYTES,
    1 << 20,
    32 << 10,
  ]);
});

test('every decipher takes payloads by a property, given to it bound, and has the packet begun at hand', () => {
  const { CIPHER_INFO, MAC_INFO, createDecipher } = require('ssh2/lib/protocol/crypto.js');
  const macInfo = MAC_INFO['hmac-sha2-256-etm@openssh.com'];
  for (const name of ALGORITHMS.cipher as string[]) {
    const decipherInfo = CIPHER_INFO[name];
    for (const forceNative of decipherInfo.sslName === 'chacha20' ? [false] : [false, true]) {
      const onPayload = (): void => {};
      const decipher: Decipher = createDecipher({
        inbound: {
          seqno: 0,
          onPayload,
          decipherInfo,
          decipherKey: Buffer.alloc(decipherInfo.keyLen),
          decipherIV: Buffer.alloc(decipherInfo.ivLen),
          macInfo,
          macKey: Buffer.alloc(macInfo.len),
          forceNative,
        },
      });
      expect(decipher._onPayload, name).toBe(onPayload);
      expect(decipher._packet, name).toBeNull();
    }
  }
});

test('every cipher makes its packets by a method of its own, length and padding in front, and encrypts by another', () => {
  const { CIPHER_INFO, MAC_INFO, createCipher } = require('ssh2/lib/protocol/crypto.js');
  const macInfo = MAC_INFO['hmac-sha2-256-etm@openssh.com'];
  for (const name of ALGORITHMS.cipher as string[]) {
    const cipherInfo = CIPHER_INFO[name];
    const cipher: PlainCipher = createCipher({
      outbound: {
        seqno: 0,
        onWrite: () => {},
        cipherInfo,
        cipherKey: Buffer.alloc(cipherInfo.keyLen),
        cipherIV: Buffer.alloc(cipherInfo.ivLen),
        macInfo,
        macKey: Buffer.alloc(macInfo.len),
      },
    });
    expect(cipher.encrypt, name).toBeTypeOf('function');
    for (const length of [1, 32_777, 40_000]) {
      const packet = cipher.allocPacket(length);
      expect(packet.readUInt32BE(0) - 1 - (packet[4] ?? 0), name).toBe(length);
      expect(packet.length, name).toBeGreaterThanOrEqual(5 + length + (packet[4] ?? 0));
    }
  }
});
