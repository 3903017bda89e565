/** A ControlMaster is spoken to in its proxy mode: the master's words are checked before its octets are SSH. */
import type { Socket } from 'node:net';
import ssh2, { type Client } from 'ssh2';
import { internalsOf, type PlainCipher } from '../ssh2/internals.ts';

/** Message numbers of OpenSSH's PROTOCOL.mux. */
const MUX_HELLO = 0x00000001;
const MUX_C_PROXY = 0x1000000f;
const MUX_S_PROXY = 0x8000000f;
const MUX_VERSION = 4;
/** RFC 4254 §5.1. */
const CHANNEL_OPEN = 90;
/** A channel type no server has: the refusal is a sign of life. */
const PROBE_TYPE = 'probe@postern';
/** Largest packet a master sends, bytes: 256 KiB is OpenSSH's own bound. */
const MAX_PACKET_BYTES = 256 * 1024;

/**
 * Puts the connection to a ControlMaster into proxy mode: from then on it carries the connection protocol of RFC 4254 itself, in
 * packets without encryption or padding (PROTOCOL.mux §8, OpenSSH ≥ 7.4). Rejects when the master does not know that.
 */
export function enterProxyMode(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    let seen: Buffer = Buffer.alloc(0);
    const done = (error?: Error): void => {
      socket.off('data', onData).off('close', onClose);
      socket.pause();
      if (error === undefined) resolve();
      else reject(error);
    };
    const onClose = (): void => done(new Error('the ControlMaster hung up'));
    const onData = (chunk: Buffer): void => {
      seen = Buffer.concat([seen, chunk]);
      while (seen.length >= 8 && seen.length >= 4 + seen.readUInt32BE(0)) {
        const length = seen.readUInt32BE(0);
        const type = seen.readUInt32BE(4);
        seen = seen.subarray(4 + length);
        if (type === MUX_HELLO) continue;
        if (type === MUX_S_PROXY) {
          if (seen.length > 0) socket.unshift(seen);
          done();
        } else done(new Error('the ControlMaster has no proxy mode'));
        return;
      }
    };
    socket.on('data', onData).on('close', onClose);
    socket.write(Buffer.concat([muxPacket(MUX_HELLO, MUX_VERSION), muxPacket(MUX_C_PROXY, 0)]));
  });
}

function muxPacket(type: number, argument: number): Buffer {
  const packet = Buffer.alloc(12);
  packet.writeUInt32BE(8, 0);
  packet.writeUInt32BE(type, 4);
  packet.writeUInt32BE(argument, 8);
  return packet;
}

/**
 * An ssh2 client that speaks plain packets over a socket in proxy mode, as if authenticated: all of its channel machinery, none
 * of its transport. Its `close` and `error` events are those of the socket.
 */
export function plainClient(socket: Socket): Client {
  const client = new ssh2.Client();
  client.connect({
    sock: socket as never,
    username: 'proxy',
    readyTimeout: 0,
    keepaliveInterval: 0,
    // Unix sockets are an extension of OpenSSH, which is what is over there if the master let us in.
    strictVendor: false,
  } as ssh2.ConnectConfig);
  const protocol = internalsOf(client)._protocol;
  // Called once ssh2 is ready to send its identification string: here there is none.
  protocol.start = () => {};
  protocol._authenticated = true;
  protocol._cipher = plainCipher((packet) => protocol._onWrite(packet));
  protocol._decipher = { free: () => {} };
  protocol._parse = deframer((payload) => protocol._onPayload(payload));
  return client;
}

/** Length, a padding length of zero, and the payload. */
function plainCipher(write: (packet: Buffer) => void): PlainCipher {
  let dead = false;
  return {
    allocPacket(payloadLength) {
      const packet = Buffer.allocUnsafe(5 + payloadLength);
      packet.writeUInt32BE(1 + payloadLength, 0);
      packet[4] = 0;
      return packet;
    },
    encrypt(packet) {
      if (!dead) write(packet);
    },
    free() {
      dead = true;
    },
  };
}

/** Cuts a stream of plain packets into payloads. Has the shape of ssh2's `_parse`: takes from `at` on, tells how far it came. */
function deframer(onPayload: (payload: Buffer) => void): (chunk: Buffer, at: number, length: number) => number {
  let held: Buffer = Buffer.alloc(0);
  return (chunk, at, length) => {
    let bytes = held.length === 0 ? chunk.subarray(at, length) : Buffer.concat([held, chunk.subarray(at, length)]);
    while (bytes.length >= 6) {
      const size = bytes.readUInt32BE(0);
      if (size < 2 || size > MAX_PACKET_BYTES) throw new Error(`the ControlMaster sent a packet of ${size} bytes`);
      if (bytes.length < 4 + size) break;
      onPayload(bytes.subarray(5, 4 + size - (bytes[4] ?? 0)));
      bytes = bytes.subarray(4 + size);
    }
    held = bytes;
    return length;
  };
}

/** A sign of life through a master, which keeps global requests such as `keepalive@openssh.com` to itself. */
export function probeThroughMaster(client: Client, answered: (reply: unknown) => void): void {
  const { _chanMgr, _protocol } = internalsOf(client);
  const asked = Object.assign(
    (error: Error & { reason?: unknown }) => answered(typeof error.reason === 'number' ? true : error),
    { type: PROBE_TYPE },
  );
  const id = _chanMgr.add(asked);
  const packet = _protocol._cipher.allocPacket(1 + 4 + PROBE_TYPE.length + 12);
  let at = packet.writeUInt8(CHANNEL_OPEN, 5);
  at = packet.writeUInt32BE(PROBE_TYPE.length, at);
  at += packet.write(PROBE_TYPE, at, 'latin1');
  for (const value of [id, 0, 1024]) at = packet.writeUInt32BE(value, at);
  _protocol._cipher.encrypt(packet);
}
