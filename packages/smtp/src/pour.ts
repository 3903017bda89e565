import { type ClientStep, createDotEncoder, type Entry } from '@postern/core';
import type { Outbox } from './outbox.ts';

/**
 * Puts a message into the outbox as its step asks, piece by piece, with `gate` in front of the last. Gives up, quietly, when `stop` is
 * true. Rejects when the message cannot be read or has not the octets that were announced; then it is not complete over there.
 */
export async function pour(
  entry: Entry,
  o: {
    readonly step: ClientStep & { type: 'message' };
    readonly outbox: Outbox;
    readonly gate: () => void;
    readonly stop: () => boolean;
  },
): Promise<void> {
  const { step, outbox, gate } = o;
  if (step.framing === 'chunk' && entry.size === 0) gate();
  outbox.push(step.head);
  const dots = step.framing === 'dot' ? createDotEncoder() : undefined;
  let octets = 0;
  let held: Uint8Array | undefined;
  for await (const chunk of entry.open()) {
    if (o.stop()) return;
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
  if (dots !== undefined) {
    gate();
    outbox.push(dots.end());
  } else if (held !== undefined) {
    gate();
    outbox.push(held);
  }
}
