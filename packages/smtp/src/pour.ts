import { type ClientStep, createDotEncoder, type Entry } from '@postern/core';
import type { Outbox } from './outbox.ts';

/** What {@link pour} needs. */
export interface PourOptions {
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
export async function pour(entry: Entry, { step, outbox, gate, stop }: PourOptions): Promise<void> {
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
