/** One pipe inside a link, the same for every backend: a lost link is an error on it, never a clean end. */
import type { Duplex } from 'node:stream';
import type { LinkError } from './link-error.ts';

/** What a channel leads to on the far side. */
export type Target =
  /** A command line for the far login shell (RFC 4254 §6.5 `exec`). */
  | { readonly type: 'exec'; readonly command: string }
  /** `direct-tcpip`: the far sshd connects (RFC 4254 §7.2). */
  | { readonly type: 'tcp'; readonly host: string; readonly port: number }
  /** `direct-streamlocal@openssh.com`: a Unix socket over there. */
  | { readonly type: 'unix'; readonly path: string }
  /** A named subsystem, e.g. `sftp` (RFC 4254 §6.5). */
  | { readonly type: 'subsystem'; readonly name: string };

/** How a channel ended. */
export type Exit =
  | { readonly type: 'exit'; readonly code: number }
  /** Ended by a signal; `name` without `SIG`, e.g. `TERM`. */
  | { readonly type: 'signal'; readonly name: string }
  /** Closed in order without a status: the normal end of a TCP or Unix channel. */
  | { readonly type: 'closed' }
  /** The link went away underneath, or the channel was aborted: what was read may be truncated. */
  | { readonly type: 'lost'; readonly error: LinkError };

/** One pipe inside a link. The same for every backend. */
export interface Channel {
  /**
   * stdin/stdout of the far end. Errors with a `LinkError` when the link is lost, never a clean end; writes after that
   * fail. Half-close both ways: `end()` is EOF to the far side, reading goes on.
   */
  readonly stream: Duplex;
  /** Resolves once, when the far side has ended or the channel was lost. Never rejects. */
  readonly exit: Promise<Exit>;
  /** The last bytes of stderr (always drained; at most `STDERR_TAIL_BYTES`). Empty for tcp and unix targets. */
  stderrTail(): Buffer;
  /**
   * Hands each stderr chunk to `listener` as well, from now on. A promise it returns holds stderr back until it settles (and, window
   * used up, stdout too, as in ssh): for whoever must pass all of it on and keep no more than a bound.
   */
  onStderr(listener: (chunk: Buffer) => unknown): Disposable;
  /**
   * The reader has done with a chunk that it was given just now and will not look at it again: the link may read into its memory next. Optional;
   * for whoever moves many megabytes. To be called while the `data` event is under way, once a chunk.
   */
  readonly release?: (chunk: Buffer) => void;
  /** Sends a signal to the far command, name without `SIG` (RFC 4254 §6.9). Best effort. */
  signal(name: string): void;
  /** Ends the channel at once: the stream errors with `reason`, the far command gets HUP and EOF, best effort. */
  abort(reason: Error): void;
}

/** How much of a channel's stderr is kept for {@link Channel.stderrTail}. */
export const STDERR_TAIL_BYTES = 8192;
