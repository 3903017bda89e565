/** Frames on a socket, a window for each byte stream, and waits for streams: nothing is buffered without bound. */
import type { Duplex } from 'node:stream';
import { finished, type Readable, Writable } from 'node:stream';
import type { Channel } from '@postern/core';
import {
  encodeFrame,
  type Frame,
  FrameError,
  frameReader,
  MAX_FRAME_BYTES,
  PIPE_WINDOW_BYTES,
  type StreamName,
} from './protocol.ts';

/** Frames over a socket. */
export interface Wire {
  /** Writes a frame; nothing once the socket is gone. What is unsent is bounded by the windows. */
  send(frame: Frame): void;
  /** No more frames from here: FIN after what was sent. What still arrives is read and dropped. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
}

/** What a wire reports. `closed` comes once, last; its error is the socket's, or a `FrameError`. */
export interface WireEvents {
  frame(frame: Frame): void;
  closed(error?: Error): void;
}

/** Puts frames on a socket. `leftover` is what was read past the request. A frame the listener throws at closes it. */
export function wireOver(socket: Duplex, o: WireEvents & { leftover?: Uint8Array }): Wire {
  const reader = frameReader();
  let fault: Error | undefined;
  let over = false;
  const fail = (error: Error): void => {
    fault ??= error;
    socket.destroy();
  };
  const read = (chunk: Uint8Array): void => {
    if (over || fault !== undefined) return;
    try {
      for (const frame of reader.push(chunk)) if (!over) o.frame(frame);
    } catch (error) {
      fail(error instanceof Error ? error : new Error(String(error)));
    }
  };
  // A write to a peer that has gone fails before its last frames were read: they may hold the exit, so reading goes on.
  socket.on('error', (error) => {
    fault ??= error;
  });
  socket.on('close', () => o.closed(fault));
  if (o.leftover !== undefined && o.leftover.length > 0) socket.unshift(o.leftover);
  socket.on('data', read);
  socket.resume();
  socket.on('end', () => socket.end());
  return {
    send(frame) {
      if (over || !socket.writable) return;
      socket.cork();
      for (const part of encodeFrame(frame)) socket.write(part);
      socket.uncork();
    },
    end() {
      over = true;
      socket.end();
    },
    destroy() {
      over = true;
      socket.destroy();
    },
  };
}

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

/** Settles when nothing more will be read from `stream`: its end, an error or its destruction. */
export function readToEnd(stream: Readable): Promise<void> {
  return new Promise((resolve) => {
    if (stream.readableEnded || stream.destroyed) return resolve();
    stream.once('end', resolve).once('close', resolve);
  });
}

/** Settles when everything written to `stream`, which was ended, has gone, or never will. */
export function over(stream: Writable): Promise<void> {
  return new Promise((resolve) => finished(stream, { readable: false }, () => resolve()));
}

/** One wait per stream, however many writers. */
const waits = new WeakMap<Writable, Promise<void>>();

/** Writes; the promise, if any, settles when `stream` wants more, or is gone. */
export function writeTo(stream: Writable, chunk: Uint8Array): Promise<void> | undefined {
  if (stream.destroyed || stream.write(chunk)) return undefined;
  const waiting = waits.get(stream) ?? drained(stream);
  waits.set(stream, waiting);
  return waiting;
}

function drained(stream: Writable): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off('drain', done).off('close', done);
      waits.delete(stream);
      resolve();
    };
    stream.on('drain', done).on('close', done);
  });
}

/** Settles when what was written to `stream` so far has gone, or never will; the stream stays open. */
export function flushed(stream: Writable): Promise<void> {
  return new Promise((resolve) => {
    if (stream.destroyed || stream.writableLength === 0) return resolve();
    stream.once('close', resolve).once('error', resolve);
    stream.write('', () => resolve());
  });
}

/** Passes a channel's stderr on, what came before this call included as far as it is kept. */
export function passStderr(channel: Channel, to: Writable): Disposable {
  const early = channel.stderrTail();
  if (early.length > 0) to.write(early);
  return channel.onStderr((chunk) => writeTo(to, chunk));
}
