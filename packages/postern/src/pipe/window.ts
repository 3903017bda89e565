import { Writable } from 'node:stream';
import { type Frame, FrameError, MAX_FRAME_BYTES, PIPE_WINDOW_BYTES, type StreamName } from './frame.ts';

/** The sending side of one byte stream: no more leaves than was granted. */
export interface Outlet {
  /** Sends `bytes`, in part later; `done` is called when all of it has left. One call at a time. */
  write(bytes: Uint8Array, done: () => void): void;
  end(): void;
  grant(bytes: number): void;
}

/** Makes an {@link Outlet} that hands its frames to `send`. */
export function outlet(stream: StreamName, send: (frame: Frame) => void): Outlet {
  let room = PIPE_WINDOW_BYTES;
  let waiting: { rest: Uint8Array; done: () => void } | undefined;
  const write = (bytes: Uint8Array, done: () => void): void => {
    let at = 0;
    while (at < bytes.length && room > 0) {
      const piece = bytes.subarray(at, at + Math.min(room, MAX_FRAME_BYTES));
      send({ type: 'data', stream, bytes: piece });
      at += piece.length;
      room -= piece.length;
    }
    if (at === bytes.length) done();
    else waiting = { rest: bytes.subarray(at), done };
  };
  return {
    write,
    end: () => send({ type: 'eof', stream }),
    grant(bytes) {
      room += bytes;
      const { rest, done } = waiting ?? {};
      waiting = undefined;
      if (rest !== undefined && done !== undefined) write(rest, done);
    },
  };
}

/** An outlet as the end of a `pipe()`. */
export function outletStream(to: Outlet): Writable {
  return new Writable({
    write: (chunk: Buffer, _encoding, done) => to.write(chunk, done),
    final(done) {
      to.end();
      done();
    },
  });
}

/** The receiving side of one byte stream: counts, and grants again what was taken. */
export interface Inlet {
  /** Throws {@link FrameError} when the peer sent more than it was granted. */
  received(bytes: number): void;
  taken(bytes: number): void;
}

/** Grants go out when this much was taken: often enough that the sender never runs dry, seldom enough to cost nothing. */
const GRANT_BYTES = PIPE_WINDOW_BYTES / 4;

/** Makes an {@link Inlet}. */
export function inlet(stream: StreamName, send: (frame: Frame) => void): Inlet {
  let room = PIPE_WINDOW_BYTES;
  let owed = 0;
  return {
    received(bytes) {
      room -= bytes;
      if (room < 0) throw new FrameError(`more ${stream} than was granted`);
    },
    taken(bytes) {
      owed += bytes;
      if (owed < GRANT_BYTES) return;
      room += owed;
      send({ type: 'grant', stream, bytes: owed });
      owed = 0;
    },
  };
}
