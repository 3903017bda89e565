/**
 * What travels on the control socket once a request made it a pipe: one channel, as frames. A frame is a type octet, a
 * four-octet big-endian length and that many octets. The law: bytes in, values out; no stream, timer or promise here, and
 * nothing is kept beyond one frame.
 *
 * Each of the three byte streams has its own window, so that stdout nobody reads never holds up stderr, the exit or a
 * signal: a side sends no more than it was granted, and so the socket itself is always read to its end.
 */
import type { Layer, LinkErrorCode } from '@postern/core';
import { type Exit, LinkError } from '@postern/core';

/** Longest payload of a frame, octets. A longer one ends the pipe. */
export const MAX_FRAME_BYTES: number = 64 * 1024;

/** What each side may send of a stream before the other grants more, octets: the bound of every buffer of a pipe. */
export const PIPE_WINDOW_BYTES: number = 512 * 1024;

/** A byte stream of the channel, as seen from the far command. */
export type StreamName = 'stdin' | 'stdout' | 'stderr';

/** Where and why a channel failed; a `LinkError` without its cause. */
export interface Fault {
  readonly code: LinkErrorCode;
  readonly layer: Layer;
  readonly message: string;
  readonly hop?: string;
  readonly fix?: string;
}

/** One frame. */
export type Frame =
  | { readonly type: 'data'; readonly stream: StreamName; readonly bytes: Uint8Array }
  /** No more of this stream. */
  | { readonly type: 'eof'; readonly stream: StreamName }
  /** So many more octets of this stream may be sent. */
  | { readonly type: 'grant'; readonly stream: StreamName; readonly bytes: number }
  /** To the far command; name without `SIG` (RFC 4254 §6.9). */
  | { readonly type: 'signal'; readonly name: string }
  /** The channel is open: what follows is its traffic. */
  | { readonly type: 'opened' }
  /** There is no channel. Last frame. */
  | { readonly type: 'refused'; readonly fault: Fault }
  /** How the channel ended. Last frame. */
  | { readonly type: 'exit'; readonly exit: PipeExit };

/** `Exit` of core, with the error as plain values. */
export type PipeExit =
  | { readonly type: 'exit'; readonly code: number }
  | { readonly type: 'signal'; readonly name: string }
  | { readonly type: 'closed' }
  | { readonly type: 'lost'; readonly fault: Fault };

/** The peer sent what is no frame: the pipe must be closed. */
export class FrameError extends Error {
  override readonly name = 'FrameError';
}

const STREAMS: readonly StreamName[] = ['stdin', 'stdout', 'stderr'];
/** Type octets. A kind that names a stream takes three in a row, in the order of {@link STREAMS}. */
const TYPE = { data: 0x10, eof: 0x20, grant: 0x30, signal: 0x40, opened: 0x50, refused: 0x51, exit: 0x52 } as const;
const HEADER_BYTES = 5;

/**
 * A frame as the octets to write, in order; data is not copied. Throws `RangeError` when the payload is longer than
 * {@link MAX_FRAME_BYTES}.
 */
export function encodeFrame(frame: Frame): Uint8Array[] {
  switch (frame.type) {
    case 'data':
      return pack(TYPE.data + STREAMS.indexOf(frame.stream), frame.bytes);
    case 'eof':
      return pack(TYPE.eof + STREAMS.indexOf(frame.stream));
    case 'grant': {
      const payload = Buffer.alloc(4);
      payload.writeUInt32BE(frame.bytes);
      return pack(TYPE.grant + STREAMS.indexOf(frame.stream), payload);
    }
    case 'signal':
      return pack(TYPE.signal, Buffer.from(frame.name));
    case 'opened':
      return pack(TYPE.opened);
    case 'refused':
      return pack(TYPE.refused, json(frame.fault));
    case 'exit':
      return pack(TYPE.exit, json(frame.exit));
  }
}

function json(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

function pack(type: number, payload?: Uint8Array): Uint8Array[] {
  const length = payload?.length ?? 0;
  if (length > MAX_FRAME_BYTES) throw new RangeError(`a frame of ${length} octets is too long`);
  const header = Buffer.alloc(HEADER_BYTES);
  header[0] = type;
  header.writeUInt32BE(length, 1);
  return payload === undefined || length === 0 ? [header] : [header, payload];
}

/** Cuts what arrives into frames. */
export interface FrameReader {
  /**
   * The frames that are whole now. Their bytes may share memory with `chunk`. Throws {@link FrameError} at the first octets
   * that cannot be a frame; the reader is of no use after that.
   */
  push(chunk: Uint8Array): Frame[];
  /** True between two frames: an end here is clean. */
  readonly idle: boolean;
}

/** Makes a {@link FrameReader}. */
export function frameReader(): FrameReader {
  let kept: Buffer = Buffer.alloc(0);
  return {
    push(chunk) {
      const input = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      const bytes = kept.length === 0 ? input : Buffer.concat([kept, input]);
      const frames: Frame[] = [];
      let at = 0;
      while (bytes.length - at >= HEADER_BYTES) {
        const length = bytes.readUInt32BE(at + 1);
        if (length > MAX_FRAME_BYTES) throw new FrameError(`a frame of ${length} octets is too long`);
        const end = at + HEADER_BYTES + length;
        if (end > bytes.length) break;
        frames.push(decode(bytes[at] as number, bytes.subarray(at + HEADER_BYTES, end)));
        at = end;
      }
      // What is kept is copied: a socket's chunk may be a slice of something larger.
      kept = at === bytes.length ? Buffer.alloc(0) : Buffer.from(bytes.subarray(at));
      return frames;
    },
    get idle() {
      return kept.length === 0;
    },
  };
}

function decode(type: number, payload: Buffer): Frame {
  const stream = STREAMS[type & 0x0f];
  switch (type < TYPE.signal ? type & 0xf0 : type) {
    case TYPE.data:
      if (stream !== undefined) return { type: 'data', stream, bytes: payload };
      break;
    case TYPE.eof:
      if (stream !== undefined && payload.length === 0) return { type: 'eof', stream };
      break;
    case TYPE.grant:
      if (stream !== undefined && payload.length === 4) return { type: 'grant', stream, bytes: payload.readUInt32BE() };
      break;
    case TYPE.signal:
      if (/^[A-Za-z0-9@.-]{1,64}$/.test(payload.toString('latin1')))
        return { type: 'signal', name: payload.toString() };
      break;
    case TYPE.opened:
      if (payload.length === 0) return { type: 'opened' };
      break;
    case TYPE.refused: {
      const fault = asFault(parse(payload));
      if (fault !== undefined) return { type: 'refused', fault };
      break;
    }
    case TYPE.exit: {
      const exit = asExit(parse(payload));
      if (exit !== undefined) return { type: 'exit', exit };
      break;
    }
  }
  throw new FrameError(`not a frame: type 0x${type.toString(16)}, ${payload.length} octets`);
}

type Fields = Readonly<Record<string, unknown>>;

function parse(payload: Buffer): Fields {
  try {
    const value: unknown = JSON.parse(payload.toString());
    return typeof value === 'object' && value !== null ? (value as Fields) : {};
  } catch {
    return {};
  }
}

function asFault(fields: Fields): Fault | undefined {
  const { code, layer, message, hop, fix } = fields;
  if (typeof code !== 'string' || typeof layer !== 'string' || typeof message !== 'string') return undefined;
  return {
    code: code as LinkErrorCode,
    layer: layer as Layer,
    message,
    ...(typeof hop === 'string' ? { hop } : {}),
    ...(typeof fix === 'string' ? { fix } : {}),
  };
}

function asExit(fields: Fields): PipeExit | undefined {
  const { type, code, name, fault } = fields;
  if (type === 'exit' && typeof code === 'number') return { type, code };
  if (type === 'signal' && typeof name === 'string') return { type, name };
  if (type === 'closed') return { type };
  if (type !== 'lost' || typeof fault !== 'object' || fault === null) return undefined;
  const asked = asFault(fault as Fields);
  return asked === undefined ? undefined : { type, fault: asked };
}

/** Longest sentence of a fault that travels, characters. */
const MAX_SENTENCE = 2000;

/** Any error as what travels in a frame. Not a `LinkError`: it is told as a fault of the channel. */
export function faultOf(error: unknown): Fault {
  const cut = (text: string): string => text.slice(0, MAX_SENTENCE);
  if (!(error instanceof LinkError)) {
    const message = error instanceof Error ? error.message : String(error);
    return { code: 'channel-refused', layer: 'channel', message: cut(message) };
  }
  return {
    code: error.code,
    layer: error.layer,
    message: cut(error.message),
    ...(error.hop === undefined ? {} : { hop: cut(error.hop) }),
    ...(error.fix === undefined ? {} : { fix: cut(error.fix) }),
  };
}

/** The error a fault was made from, without its cause. */
export function errorOf(fault: Fault): LinkError {
  return new LinkError(fault.message, fault);
}

/** An exit as it travels. */
export function toPipeExit(exit: Exit): PipeExit {
  return exit.type === 'lost' ? { type: 'lost', fault: faultOf(exit.error) } : exit;
}

/** An exit that travelled. */
export function fromPipeExit(exit: PipeExit): Exit {
  return exit.type === 'lost' ? { type: 'lost', error: errorOf(exit.fault) } : exit;
}
