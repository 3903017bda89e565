/** The errors of a transport: each says whether trying again can help. */
import { type Layer, type Outcome, replyText } from '@postern/core';

/** What a transport error is about, closed: switch on it. */
export type TransportErrorCode =
  | 'envelope' // an address is missing or malformed; nothing was sent
  | 'message' // the message cannot be read, or may not travel (bare CR, NUL, a line over 998 octets); nothing was sent
  | 'rejected' // refused for good: by every recipient, or by this one
  | 'deferred' // not accepted now; try again
  | 'uncertain' // the link died after the last byte may have left: it may or may not have been accepted
  | 'aborted' // `signal` aborted, or the transport was closed
  | 'timeout'; // no session within `connectTimeoutMs`

/**
 * What `sendMail` rejects with, besides `LinkError`, `DeliveryError` and `SpoolError`, which have the same three
 * fields.
 */
export class TransportError extends Error {
  override readonly name = 'TransportError';
  readonly code: TransportErrorCode;
  /** Always `protocol`: faults of the layers below come as `LinkError` or `DeliveryError`. */
  readonly layer: Layer = 'protocol';
  /** The recipient it is about, when about one. */
  readonly recipient?: string;
  /** The far server's reply code, when it gave one. */
  readonly responseCode?: number;
  /** That reply, on one line. */
  readonly response?: string;
  /** Recipients refused or not accepted, when it is about all of them. */
  readonly rejected?: readonly string[];
  /** Why, per recipient. */
  readonly rejectedErrors?: readonly TransportError[];

  constructor(
    message: string,
    o: {
      code: TransportErrorCode;
      recipient?: string | undefined;
      responseCode?: number | undefined;
      response?: string | undefined;
      rejectedErrors?: readonly TransportError[];
      cause?: unknown;
    },
  ) {
    super(message, o.cause === undefined ? undefined : { cause: o.cause });
    this.code = o.code;
    if (o.recipient !== undefined) this.recipient = o.recipient;
    if (o.responseCode !== undefined) this.responseCode = o.responseCode;
    if (o.response !== undefined) this.response = o.response;
    if (o.rejectedErrors !== undefined) {
      this.rejectedErrors = o.rejectedErrors;
      this.rejected = o.rejectedErrors.map((error) => error.recipient ?? '');
    }
  }

  /** True when sending the same again cannot help. */
  get permanent(): boolean {
    return this.code === 'rejected' || this.code === 'envelope' || this.code === 'message';
  }
}

/** The error of a message that was taken back. */
export function aborted(reason: unknown): TransportError {
  const why = reason instanceof Error ? reason.message : 'aborted';
  return new TransportError(`not sent: ${why}`, { code: 'aborted', cause: reason });
}

/** The error of one recipient, none when it was delivered. */
export function recipientError(recipient: string, outcome: Outcome): TransportError | undefined {
  switch (outcome.type) {
    case 'delivered':
      return undefined;
    case 'uncertain':
      return new TransportError(`${recipient}: the link died before the reply came; it may have been accepted`, {
        code: 'uncertain',
        recipient,
      });
    case 'deferred':
    case 'failed':
      return new TransportError(`${recipient}: ${outcome.reason}`, {
        code: outcome.type === 'failed' ? 'rejected' : 'deferred',
        recipient,
        responseCode: outcome.reply?.code,
        response: outcome.reply === undefined ? undefined : replyText(outcome.reply),
      });
  }
}
