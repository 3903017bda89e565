/** The one kept connection to a host, as every package sees it: channels are opened in it, and its state is told. */
import type { Channel, Target } from './channel.ts';
import type { LinkError } from './link-error.ts';

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
