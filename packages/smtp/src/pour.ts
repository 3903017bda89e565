import { type ClientStep, createDotEncoder, type Entry } from '@postern/core';
import type { Outbox } from './outbox.ts';

/** What {@link pour} needs. */
export interface PourOptions {
  readonly step: ClientStep & { type: 'message' };
  readonly outbox: Outbox;
  /** Called before the last piece is queued. */
  readonly gate: () => void;
  /** Called with how many chunks more than the step's are queued. */
  readonly chunks: (count: number) => void;
  readonly stop: () => boolean;
}

/**
 * Puts a message into the outbox as its step asks, piece by piece. Gives up, quietly, when `stop` is true. Rejects when the message cannot be
 * read or has not the octets that were announced; then it is not complete over there.
 */
export async function pour(entry: Entry, o: PourOptions): Promise<void> {
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
    if (step.split) return pourLast(held, o);
    gate();
    outbox.push(held);
  }
}

/** All but the last octet, then the octet that completes the message, in a chunk of its own; always an LF, as with DATA. */
function pourLast(held: Uint8Array, { outbox, gate, chunks }: PourOptions): void {
  const last = held.subarray(-1);
  outbox.push(held.subarray(0, -1));
  if (last[0] !== 10) {
    chunks(2);
    outbox.push(Buffer.concat([Buffer.from('BDAT 1\r\n'), last, Buffer.from('BDAT 1\r\n\r')]));
  }
  gate();
  outbox.push(Buffer.from('BDAT 1 LAST\r\n\n'));
}
