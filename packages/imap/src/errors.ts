/** What can be wrong with a far imapd, closed: switch on it. Faults of the link itself are `LinkError`s. */
export type ImapErrorCode =
  | 'no-imapd' // the probe found none
  | 'not-preauth' // it greeted, but not with PREAUTH
  | 'silent' // no greeting in time
  | 'noise' // what it said is not IMAP
  | 'ended' // it ended before or right after its greeting
  | 'closed'; // used after close()

/** A far imapd that cannot be used. `message` is one sentence a person can act on, its foreign parts escaped. */
export class ImapError extends Error {
  override readonly name = 'ImapError';
  readonly code: ImapErrorCode;
  constructor(code: ImapErrorCode, message: string, o: { cause?: unknown } = {}) {
    super(message, o.cause === undefined ? undefined : { cause: o.cause });
    this.code = code;
  }
}
