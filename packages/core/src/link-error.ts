/** What can be wrong with a link or a channel: a closed list of codes, a layer, and one sentence a person can act on. */

/** Where a fault lies, from the outside in. */
export type Layer = 'dns' | 'tcp' | 'jump' | 'kex' | 'hostkey' | 'auth' | 'channel' | 'command' | 'protocol';

/** What went wrong, closed: switch on it. */
export type LinkErrorCode =
  | 'config' // the host's settings cannot be used
  | 'not-found' // name does not resolve
  | 'unreachable' // no route, or no answer to connect
  | 'refused' // connection refused
  | 'timeout' // connected, but silent
  | 'handshake' // not an SSH server, or no algorithm in common
  | 'hostkey-unknown'
  | 'hostkey-changed'
  | 'hostkey-revoked'
  | 'auth-failed'
  | 'channel-refused' // the far sshd refused the channel (policy, or nothing listens there)
  | 'channel-limit' // MaxSessions reached
  | 'command-failed' // the far command is missing or ended at once
  | 'protocol' // the far side does not speak what it should
  | 'lost' // an established link ended or fell silent
  | 'aborted'; // ended from this side

/** Everything that can be wrong with a link or a channel. `message` is one sentence a person can act on. */
export class LinkError extends Error {
  override readonly name = 'LinkError';
  readonly code: LinkErrorCode;
  readonly layer: Layer;
  /** The jump host at which it happened, when not the destination. */
  readonly hop?: string;
  /** What to do about it, e.g. the command that accepts a host key. Own line when shown. */
  readonly fix?: string;
  constructor(
    message: string,
    o: { code: LinkErrorCode; layer: Layer; hop?: string | undefined; fix?: string | undefined; cause?: unknown },
  ) {
    super(message, o.cause === undefined ? undefined : { cause: o.cause });
    this.code = o.code;
    this.layer = o.layer;
    if (o.hop !== undefined) this.hop = o.hop;
    if (o.fix !== undefined) this.fix = o.fix;
  }
  /** True when redialling alone cannot help: host key, authentication, configuration. */
  get permanent(): boolean {
    return isPermanent(this.code);
  }
}

/** Codes that stay until somebody changes something. Unknown is temporary. */
export function isPermanent(code: LinkErrorCode): boolean {
  return code.startsWith('hostkey-') || code === 'auth-failed' || code === 'config';
}

/** True for a fault of the link itself (mail is held, no attempt charged), false for one behind it (channel, command, protocol). */
export function isLinkDown(error: unknown): error is LinkError {
  return (
    error instanceof LinkError &&
    (['dns', 'tcp', 'jump', 'kex', 'hostkey', 'auth'].includes(error.layer) ||
      error.code === 'lost' ||
      error.code === 'aborted')
  );
}
