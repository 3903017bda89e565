import { finished, type Readable, type Writable } from 'node:stream';
import type { Channel } from '@postern/core';

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
