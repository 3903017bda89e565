/** What a spool tells while it works: for logs and alerts, and nothing depends on it. */
import type { EntryId, SpoolError } from '@postern/core';

/** What a spool tells while it works. For logs and alerts; nothing depends on it. */
export type SpoolEvent =
  /** The spool is open; `milliseconds` is what recovery took. */
  | { readonly type: 'opened'; readonly entries: number; readonly milliseconds: number }
  /** The last owner ended without releasing the spool. */
  | { readonly type: 'taken-over'; readonly pid: number }
  /** A half-written file of a dead writer was removed: its sender was never told 250. */
  | { readonly type: 'swept'; readonly name: string }
  /** ALERT: an entry is not what was accepted; its files are kept in `path`. */
  | { readonly type: 'corrupt'; readonly id: EntryId; readonly reason: string; readonly path: string }
  /** ALERT: an entry's journal is damaged in the middle; the entry is held. */
  | { readonly type: 'damaged-journal'; readonly id: EntryId; readonly line: number }
  /** A later version wrote it; it is left alone. */
  | { readonly type: 'newer'; readonly id: EntryId; readonly version: number }
  /**
   * ALERT: a sync failed, or another process took the spool over. Nothing is taken or changed until the spool is opened
   * again.
   */
  | { readonly type: 'fault'; readonly error: SpoolError }
  /** ALERT: room is short; new mail is refused with `no-space`. Told once until there is room again. */
  | { readonly type: 'low-space'; readonly free: number; readonly wanted: number };

/** Receives events; must not throw. */
export type OnSpoolEvent = (event: SpoolEvent) => void;
