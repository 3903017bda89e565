import type { Channel, Target } from './channel.ts';

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

/** State of a link. */
export type LinkState =
  /** Nothing wanted it yet. */
  | { readonly type: 'idle' }
  /** `attempt` counts from 1 since it was last up. */
  | { readonly type: 'dialling'; readonly attempt: number }
  | { readonly type: 'up'; readonly rttMs?: number }
  /** `retryAt` (wall clock, ms) is absent when it will not redial by itself. */
  | { readonly type: 'down'; readonly error: LinkError; readonly retryAt?: number };

/** Why a link is woken: resets the redial back-off and dials, or probes at once when up. */
export type WakeReason = 'flush' | 'login' | 'network' | 'reload';

/** The one kept SSH connection (or small pool) to a host. */
export interface Link {
  /** The host's name, as configured or given. */
  readonly host: string;
  readonly state: LinkState;
  /** When the last octet came from the far side, on the monotonic clock, ms. Absent while not up, or where the backend cannot tell. */
  readonly heardAt?: number | undefined;
  /**
   * Opens a channel, dialling first when needed, and waits while the link redials, until `signal` aborts (rejects with
   * its reason). Rejects with {@link LinkError} when the far side refuses the channel, or the fault is `permanent`.
   */
  open(target: Target, o: { signal: AbortSignal }): Promise<Channel>;
  wake(why: WakeReason): void;
  /** Calls `listener` on every change, not for the present state. */
  watch(listener: (state: LinkState) => void): Disposable;
  /** Ends all channels and the connection; the link cannot be used again. Idempotent. */
  close(): Promise<void>;
}
