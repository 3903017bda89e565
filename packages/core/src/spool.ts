/** What every spool promises: a message is accepted when it is durable; its journal is appended to, never changed. */
import type { Entry, EntryId } from './entry.ts';
import type { Envelope, ForwardPath } from './envelope.ts';
import type { Outcome } from './outcome.ts';

/** What can be wrong with a spool, closed: switch on it. */
export type SpoolErrorCode =
  | 'no-space' // the disk is full, or nearly: room is kept for outcomes
  | 'io' // the disk failed; after a failed sync the spool takes nothing more until it is opened again
  | 'aborted' // the signal given to accept()
  | 'busy' // another process owns the spool
  | 'corrupt' // stored bytes are not what was accepted
  | 'gone' // no such entry (any more)
  | 'closed'; // used after close()

/** Everything a spool rejects with. `message` is one sentence a person can act on. */
export class SpoolError extends Error {
  override readonly name = 'SpoolError';
  readonly code: SpoolErrorCode;
  constructor(message: string, o: { code: SpoolErrorCode; cause?: unknown }) {
    super(message, o.cause === undefined ? undefined : { cause: o.cause });
    this.code = o.code;
  }
}

/**
 * One line of an entry's journal: what happened, in order, each durable before the next step. `at` is wall clock, ms.
 * A reader skips types it does not know.
 */
export type JournalRecord =
  /** Before the last byte of attempt `n` leaves. An attempt with no outcome after it is uncertain when the spool is opened again. */
  | {
      readonly type: 'attempt';
      readonly at: number;
      readonly n: number;
      readonly host: string;
      readonly to: readonly ForwardPath[];
      readonly receipt?: string;
    }
  /** What became of one recipient. `n` is 0 when none is charged: none was needed (expired, refused here), or the link was lost before the last byte left. */
  | {
      readonly type: 'outcome';
      readonly at: number;
      readonly n: number;
      readonly to: ForwardPath;
      readonly outcome: Outcome;
    }
  /** When it is due again, and why it waits. `elapsed`: milliseconds of queue life counted so far (none while a link is down). */
  | {
      readonly type: 'next';
      readonly at: number;
      readonly due: number;
      readonly reason: string;
      readonly elapsed: number;
    }
  | { readonly type: 'hold'; readonly at: number; readonly reason: string }
  | { readonly type: 'release'; readonly at: number }
  /**
   * A DSN about these recipients is made as `dsn`: written before it, and followed by `notified` before it is sent. Where that is missing, a DSN of that
   * name which is in the spool tells of them already.
   */
  | ({ readonly type: 'notifying'; readonly at: number } & Notice)
  /** A DSN about these recipients was spooled (or kept) as `dsn`. */
  | ({ readonly type: 'notified'; readonly at: number } & Notice);

/** What one DSN tells. */
export interface Notice {
  readonly kind: 'failed' | 'delayed' | 'relayed' | 'expired';
  readonly to: readonly ForwardPath[];
  /** Its entry's name, or the name it is kept under. */
  readonly dsn: string;
}

/** One recipient as the spool knows it. Without `outcome` it was never tried. */
export interface RecipientState {
  readonly to: ForwardPath;
  readonly outcome?: Outcome;
  /** How often its outcome was uncertain. */
  readonly uncertain: number;
  /** A DSN of final state was made for it. */
  readonly notified: boolean;
}

/** An entry as the spool holds it in memory: no body. */
export interface EntryState {
  readonly id: EntryId;
  readonly envelope: Envelope;
  /** Octets of the message. */
  readonly size: number;
  /** Wall clock, ms. */
  readonly arrived: number;
  readonly held: boolean;
  /** Wall clock, ms, at which it is due. */
  readonly due: number;
  /** Queue life counted so far, ms. */
  readonly elapsed: number;
  /** Attempts that came to something: the far side answered, or may have. The one under way does not count yet. */
  readonly attempts: number;
  /** Why it waits, for people. */
  readonly reason: string;
  readonly delayNotified: boolean;
  /** DSNs that were being made: whether they are in the spool is not recorded yet. */
  readonly notifying: readonly Notice[];
  readonly recipients: readonly RecipientState[];
  /** Earlier attempts with a receipt whose outcome is not known. */
  readonly unresolved: Entry['unresolved'];
}

/** Options of {@link SpoolWriter.accept}. */
export interface AcceptOptions {
  readonly signal?: AbortSignal;
  readonly id?: EntryId;
  readonly longLines?: () => boolean;
}

/** What takes mail in: all a listener, `sendmail` or a script needs. */
export interface SpoolWriter {
  /**
   * Resolves when the entry is durable (file and directory synced). Rejects with a `SpoolError` (`no-space`, `io`, `aborted`, `closed`) or
   * with what `message` throws; then nothing is kept. `id` (from `newEntryId`) names the entry where its name must be known before, as in
   * a `Received:` line. The envelope's `body` becomes `8BITMIME` when an octet above 127 is seen.
   * `longLines` is asked when the message has ended, for the envelope's.
   */
  accept(envelope: Envelope, message: AsyncIterable<Uint8Array>, o?: AcceptOptions): Promise<EntryId>;
}

/** The spool as its one owner has it. */
export interface Spool extends SpoolWriter {
  /** All entries, oldest first. */
  entries(): Iterable<EntryState>;
  get(id: EntryId): EntryState | undefined;
  /** The stored bytes. Errors with a `SpoolError` `corrupt` (and moves the entry to `corrupt/`) when they are not what was accepted. */
  read(id: EntryId): AsyncIterable<Uint8Array>;
  /** Appends to the entry's journal, in one write; durable when it resolves. Rejects with `gone`, `no-space`, `io`, `closed`. */
  record(id: EntryId, ...records: readonly JournalRecord[]): Promise<void>;
  /** Forgets an entry; durable when it resolves. Nothing happens when it is gone already. */
  remove(id: EntryId): Promise<void>;
  /** Calls `listener` for each entry that arrives from now on, whoever wrote it. */
  onArrival(listener: (state: EntryState) => void): Disposable;
  /** Releases ownership, after what is under way has settled. */
  close(): Promise<void>;
}
