/** Messages are written piece by piece, and the last piece never before its barrier: half a message is never complete over there. */
import {
  type Channel,
  type ClientStep,
  createDotEncoder,
  type Entry,
  type Exit,
  LinkError,
  raceAbort,
} from '@postern/core';
import type { Outbox } from './outbox.ts';

/** What {@link writeMessage} needs. */
export interface MessageOptions {
  readonly step: ClientStep & { type: 'message' };
  readonly outbox: Outbox;
  /** Called before the last piece is queued, with its octets. */
  readonly gate: (octets: number) => void;
  readonly stop: () => boolean;
}

/**
 * Puts a message into the outbox as its step asks, piece by piece. Gives up, quietly, when `stop` is true. Rejects when the message cannot be
 * read or has not the octets that were announced; then it is not complete over there.
 */
export async function writeMessage(entry: Entry, { step, outbox, gate, stop }: MessageOptions): Promise<void> {
  const dots = step.framing === 'dot' ? createDotEncoder() : undefined;
  if (dots === undefined && entry.size === 0) gate(step.head.length);
  outbox.push(step.head);
  let octets = 0;
  let held: Uint8Array | undefined;
  for await (const chunk of entry.open()) {
    if (stop()) return;
    octets += chunk.length;
    if (octets > entry.size) break;
    if (dots !== undefined) outbox.push(dots.push(chunk));
    else if (chunk.length > 0) {
      if (held !== undefined) outbox.push(held);
      held = chunk;
    }
    await outbox.room();
  }
  if (octets !== entry.size) {
    throw new Error(`the message has ${octets > entry.size ? 'more than ' : ''}${octets} octets, not ${entry.size}`);
  }
  const last = dots?.end() ?? held;
  if (last === undefined) return;
  gate(last.length);
  outbox.push(last);
}

/** The fault of a channel that ended while it was written to. */
export function lost(exit: Exit): Error {
  return exit.type === 'lost' ? exit.error : new LinkError('the link was lost', { code: 'lost', layer: 'channel' });
}

/** Writes all pieces into a channel, with `gate` before the last. */
export async function writePieces(
  { stream, exit }: Channel,
  pieces: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
  gate: () => Promise<void>,
): Promise<void> {
  const write = async (piece: Uint8Array): Promise<void> => {
    signal.throwIfAborted();
    if (stream.destroyed) throw lost(await exit);
    if (stream.write(piece)) return;
    const drained = new Promise<void>((resolve) => void stream.once('drain', resolve).once('close', resolve));
    await raceAbort(drained, signal);
  };
  let held: Uint8Array | undefined;
  for await (const piece of pieces) {
    if (held !== undefined) await write(held);
    held = piece;
  }
  await gate();
  if (held !== undefined) await write(held);
}
