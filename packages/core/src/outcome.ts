/** A whole SMTP reply (RFC 5321 §4.2). Texts are as received, undecoded bytes above 127 read as latin1; escape before showing. */
export interface Reply {
  /** 200–599. */
  readonly code: number;
  /** Enhanced status code such as `5.1.1`, when the first line carries one (RFC 2034). */
  readonly enhanced?: string;
  /** Text of each line, without code, separator, enhanced code and CRLF. At least one. */
  readonly lines: readonly string[];
}

/** What became of one forward-path in one attempt. Unknown is never `delivered` and never `failed`. */
export type Outcome =
  /**
   * The far server took responsibility; `reply` is its final reply. `relayed`: success was to be notified and the far server has no DSN
   * extension, so the "relayed" DSN is ours to send (RFC 3461 §5.2.2).
   */
  | { readonly type: 'delivered'; readonly reply: Reply; readonly relayed?: boolean }
  /** Not accepted now; try again. */
  | { readonly type: 'deferred'; readonly reply?: Reply; readonly reason: string }
  /** Refused for good. */
  | { readonly type: 'failed'; readonly reply?: Reply; readonly reason: string }
  /** The link died after the last byte may have left, before the final reply; `receipt` may tell later. */
  | { readonly type: 'uncertain'; readonly receipt?: string };

/** The reply's class: the first digit of its code. */
export function replyClass(reply: Reply): 2 | 3 | 4 | 5 {
  return Math.floor(reply.code / 100) as 2 | 3 | 4 | 5;
}

/** A reply on one line, e.g. `550 5.1.1 No such user`. Not escaped. */
export function replyText(reply: Reply): string {
  return [reply.code, reply.enhanced, reply.lines.join(' ')]
    .filter((part) => part !== undefined && part !== '')
    .join(' ');
}

/** The outcome a final reply means: 2yz delivered, 5yz failed, anything else deferred (RFC 5321 §4.2.1: unknown is temporary). */
export function outcomeOf(reply: Reply): Outcome {
  const kind = replyClass(reply);
  if (kind === 2) return { type: 'delivered', reply };
  return { type: kind === 5 ? 'failed' : 'deferred', reply, reason: replyText(reply) };
}
