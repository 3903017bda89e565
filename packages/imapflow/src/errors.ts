/** What can go wrong here besides `LinkError`, `ImapError` and ImapFlow's own errors, closed. */
export type ConnectImapErrorCode =
  | 'timeout' // no session within `connectTimeoutMs`
  | 'aborted'; // `signal` aborted

/** What `connectImap` rejects with when it gives up by itself. */
export class ConnectImapError extends Error {
  override readonly name = 'ConnectImapError';
  readonly code: ConnectImapErrorCode;
  constructor(code: ConnectImapErrorCode, message: string, o: { cause?: unknown } = {}) {
    super(message, o.cause === undefined ? undefined : { cause: o.cause });
    this.code = code;
  }
}
