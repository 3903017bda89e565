/** What the relay tells while it works: for logs, and nothing depends on it. */
import type { EntryId, ForwardPath, Outcome, Reply, ReversePath } from '@postern/core';

/** What the relay tells while it works. For logs; nothing depends on it. Texts from afar are not escaped. */
export type RelayEvent = IntakeEvent | RunnerEvent;

/** What the intake tells. `peer` is the client's address and port, or `unix`. */
export type IntakeEvent =
  /** A connection closed before the banner. */
  | { readonly type: 'connection-refused'; readonly peer: string; readonly reason: string }
  /** A wrong local password. */
  | { readonly type: 'auth-failed'; readonly session: string; readonly peer: string }
  /** A message is in the spool; its client was told 250. `who` is the admission's word. */
  | {
      readonly type: 'accepted';
      readonly id: EntryId;
      readonly session: string;
      readonly peer: string;
      readonly who: string;
      readonly from: ReversePath;
      readonly recipients: number;
      readonly size: number;
    }
  /**
   * Cut-through: the far side gave this final reply, and so did we. `id` names the transaction; nothing is in the
   * spool.
   */
  | {
      readonly type: 'passed';
      readonly id: EntryId;
      readonly session: string;
      readonly peer: string;
      readonly who: string;
      readonly from: ReversePath;
      readonly to: readonly ForwardPath[];
      readonly host: string;
      readonly size: number;
      readonly reply: Reply;
    }
  /** A command or a message was refused with this reply. */
  | {
      readonly type: 'rejected';
      readonly session: string;
      readonly peer: string;
      readonly code: number;
      readonly text: string;
      /** What MAIL or RCPT named, as the client wrote it. */
      readonly path?: string;
    };

/** What the queue runner tells. */
export type RunnerEvent =
  /** One recipient's outcome: a log line. `relay` is the host, `delayMs` the time since arrival. */
  | {
      readonly type: 'outcome';
      readonly id: EntryId;
      readonly from: ReversePath;
      readonly to: ForwardPath;
      readonly relay: string;
      readonly delayMs: number;
      readonly outcome: Outcome;
      /** Enhanced status code. */
      readonly dsn: string;
      readonly status: 'sent' | 'deferred' | 'bounced' | 'expired' | 'uncertain';
      /** The far side's words, or why. */
      readonly text: string;
    }
  /** All recipients are done; the entry is gone from the spool. */
  | { readonly type: 'completed'; readonly id: EntryId }
  /** It waits until somebody releases it. */
  | { readonly type: 'held'; readonly id: EntryId; readonly reason: string }
  /** A DSN about `id` went into the spool as `dsn`, or (`kept`) into the local bounces. */
  | {
      readonly type: 'notified';
      readonly id: EntryId;
      readonly kind: 'failed' | 'delayed' | 'relayed' | 'expired';
      readonly dsn: string;
      readonly kept: boolean;
    }
  /** No route takes these recipients any more; they wait for one. */
  | { readonly type: 'no-route'; readonly id: EntryId; readonly to: readonly ForwardPath[] }
  /** A host's session failed as a whole; `waitMs` until the next try, absent while its link is down. */
  | { readonly type: 'host-deferred'; readonly host: string; readonly reason: string; readonly waitMs?: number }
  /** Something of ours failed (the spool, a courier that broke its contract). Mail stays queued. */
  | { readonly type: 'error'; readonly id?: EntryId; readonly error: unknown };

/** Receives events; must not throw. */
export type OnRelayEvent = (event: RelayEvent) => void;
