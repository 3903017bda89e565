/** A transaction that goes straight through: each of the client's commands waits for the far side's own reply. */
import type { Envelope, Recipient } from './envelope.ts';
import type { Reply } from './outcome.ts';

/** A transaction that runs on the far side while its client waits (cut-through): nothing of it is kept here. */
export interface DirectTransaction {
  /** The far side's reply to RCPT. Rejects with a `LinkError` or a delivery error when the session has ended. */
  rcpt(recipient: Recipient): Promise<Reply>;
  /**
   * Sends the message and resolves with the final reply. When `message` throws, the far side takes nothing, since the last dot never leaves, and it
   * rejects with what was thrown; otherwise as `rcpt`.
   */
  data(message: AsyncIterable<Uint8Array>): Promise<Reply>;
  /** Ends the session: with QUIT after a final reply, else at once. Idempotent. */
  close(): void;
}

/** What came of MAIL. */
export type DirectStart =
  | { readonly type: 'open'; readonly transaction: DirectTransaction }
  /** The far side's reply to the greeting, EHLO or MAIL, or why the message cannot go there at all. */
  | { readonly type: 'refused'; readonly reply: Reply };

/** Begins a transaction on the far side. `size` is what the client announced, octets. Rejects with a `LinkError` or a delivery error. */
export type Direct = (
  envelope: Omit<Envelope, 'recipients'>,
  o: { readonly size?: number; readonly signal: AbortSignal },
) => Promise<DirectStart>;
