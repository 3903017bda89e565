/** Packets are built in the memory of the one before, once that has left. */
import { randomFillSync } from 'node:crypto';
import type { Duplex } from 'node:stream';
import type { Client } from 'ssh2';
import { internalsOf, type PlainCipher } from './internals.ts';

/** Smaller packets are left to the garbage collector, bytes. */
const LARGE_PACKET_BYTES = 16 * 1024;
/** The length of a packet and that of its padding stand before the payload (RFC 4253 §6), bytes. */
const HEAD_BYTES = 5;

/**
 * Has ssh2 1.17.0 build large packets in the memory of the one before, where the socket took that at once. It takes new memory for each
 * by itself, which costs a bulk upload more collecting than encrypting.
 */
export function reusePackets(client: Client, socket: Duplex): void {
  const protocol = internalsOf(client)._protocol;
  let cipher = reusing(protocol._cipher, socket);
  // Each key exchange puts a new one in its place.
  Object.defineProperty(protocol, '_cipher', {
    get: () => cipher,
    set: (next: PlainCipher) => {
      cipher = reusing(next, socket);
    },
  });
}

function reusing(cipher: PlainCipher, socket: Duplex): PlainCipher {
  const allocPacket = cipher.allocPacket.bind(cipher);
  const encrypt = cipher.encrypt.bind(cipher);
  const head = Buffer.alloc(HEAD_BYTES);
  let spare: { readonly packet: Buffer; readonly payloadLength: number } | undefined;
  cipher.allocPacket = (payloadLength) => {
    if (spare?.payloadLength !== payloadLength) return allocPacket(payloadLength);
    const { packet } = spare;
    spare = undefined;
    head.copy(packet);
    randomFillSync(packet, HEAD_BYTES + payloadLength, head.readUInt8(4));
    return packet;
  };
  cipher.encrypt = (packet) => {
    if (packet.length < LARGE_PACKET_BYTES) return encrypt(packet);
    packet.copy(head, 0, 0, HEAD_BYTES);
    encrypt(packet);
    const payloadLength = head.readUInt32BE(0) - 1 - head.readUInt8(4);
    spare = socket.writableLength === 0 ? { packet, payloadLength } : undefined;
  };
  return cipher;
}
