/**
 * What an entry's journal comes to: the records are all there is, and the same ones always add up to the same state.
 */
import type { Entry } from './entry.ts';
import type { Envelope, ForwardPath } from './envelope.ts';
import type { Outcome } from './outcome.ts';
import type { EntryState, JournalRecord, Notice, RecipientState } from './spool.ts';

interface OpenAttempt {
  readonly n: number;
  readonly receipt: string | undefined;
  /** Already counted in `uncertain`. */
  readonly counted: boolean;
}

interface Tally {
  outcome: Outcome | undefined;
  uncertain: number;
  notified: boolean;
  /**
   * The last attempt with no definite outcome. A newer attempt takes its place: whoever made it looked at the receipt
   * first.
   */
  open: OpenAttempt | undefined;
}

const NONE: readonly Notice[] = [];

/**
 * The state of an entry with no records. Written out, not spread: V8 puts spread literals straight into the old
 * generation, 1 KB an entry.
 */
export function untouched(base: Pick<EntryState, 'id' | 'size' | 'arrived' | 'envelope'>): EntryState {
  return {
    id: base.id,
    envelope: base.envelope,
    size: base.size,
    arrived: base.arrived,
    held: false,
    due: base.arrived,
    elapsed: 0,
    attempts: 0,
    reason: '',
    delayNotified: false,
    notifying: NONE,
    recipients: base.envelope.recipients.map(({ to }) => ({ to, uncertain: 0, notified: false })),
    unresolved: [],
  };
}

/** What the records so far add up to. Compact: a spool holds many. */
export class Ledger {
  held = false;
  due = 0;
  elapsed = 0;
  attempts = 0;
  reason = '';
  delayNotified = false;
  notifying: readonly Notice[] = NONE;
  readonly #tallies = new Map<ForwardPath, Tally>();

  #tally(to: ForwardPath): Tally {
    let tally = this.#tallies.get(to);
    if (tally === undefined) {
      tally = { outcome: undefined, uncertain: 0, notified: false, open: undefined };
      this.#tallies.set(to, tally);
    }
    return tally;
  }

  /** Adds one record. Types it does not know are skipped. */
  apply(record: JournalRecord): void {
    switch (record.type) {
      case 'attempt':
        for (const to of record.to) {
          const tally = this.#tally(to);
          if (tally.open !== undefined && !tally.open.counted) tally.uncertain++;
          tally.open = { n: record.n, receipt: record.receipt, counted: false };
        }
        return;
      case 'outcome':
        this.attempts = Math.max(this.attempts, record.n);
        if (record.n === 0 && record.outcome.type === 'deferred') this.#notAccepted(this.#tally(record.to));
        this.#outcome(this.#tally(record.to), record.outcome);
        return;
      case 'next':
        this.due = record.due;
        this.elapsed = record.elapsed;
        if (!this.held) this.reason = record.reason;
        return;
      case 'hold':
        this.held = true;
        this.reason = record.reason;
        return;
      case 'release':
        this.held = false;
        this.reason = '';
        return;
      case 'notifying': {
        const { kind, to, dsn } = record;
        this.notifying = [...this.notifying, { kind, to, dsn }];
        return;
      }
      case 'notified':
        this.notifying = this.notifying.filter(
          ({ kind, dsn }) => dsn !== record.dsn && (kind !== 'delayed' || record.kind !== kind),
        );
        if (record.kind === 'delayed') this.delayNotified = true;
        else for (const to of record.to) this.#tally(to).notified = true;
    }
  }

  /** No attempt was made since, and none is charged: an uncertain one is known to have come to nothing. */
  #notAccepted(tally: Tally): void {
    if (!tally.open?.counted) return;
    tally.uncertain--;
    if (tally.open.n === this.attempts) this.attempts = Math.max(0, this.attempts - 1);
  }

  #outcome(tally: Tally, outcome: Outcome): void {
    tally.outcome = outcome;
    if (outcome.type !== 'uncertain') {
      tally.open = undefined;
      return;
    }
    const { n, receipt, counted } = tally.open ?? { n: 0, receipt: undefined, counted: false };
    if (!counted) tally.uncertain++;
    // An attempt that only looked at an earlier one's receipt has none of its own.
    tally.open = { n, receipt: receipt ?? outcome.receipt, counted: true };
  }

  /** Called after recovery: an attempt that was under way when its process ended is uncertain. */
  closeAttempts(): void {
    for (const tally of this.#tallies.values()) {
      if (tally.open === undefined || tally.open.counted) continue;
      const { n, receipt } = tally.open;
      this.attempts = Math.max(this.attempts, n);
      this.#outcome(tally, { type: 'uncertain', ...(receipt === undefined ? {} : { receipt }) });
    }
  }

  /** The state of the entry. */
  state(base: Pick<EntryState, 'id' | 'size' | 'arrived'> & { envelope: Envelope }): EntryState {
    return {
      ...base,
      held: this.held,
      due: this.due || base.arrived,
      elapsed: this.elapsed,
      attempts: this.attempts,
      reason: this.reason,
      delayNotified: this.delayNotified,
      notifying: this.notifying,
      recipients: base.envelope.recipients.map(({ to }) => this.#recipient(to)),
      unresolved: this.#unresolved(base.envelope),
    };
  }

  #recipient(to: ForwardPath): RecipientState {
    const tally = this.#tallies.get(to);
    if (tally === undefined) return { to, uncertain: 0, notified: false };
    const { outcome, uncertain, notified } = tally;
    return { to, uncertain, notified, ...(outcome === undefined ? {} : { outcome }) };
  }

  #unresolved(envelope: Envelope): Entry['unresolved'] {
    const byReceipt = new Map<string, ForwardPath[]>();
    for (const { to } of envelope.recipients) {
      const open = this.#tallies.get(to)?.open;
      if (open?.receipt === undefined || !open.counted) continue;
      byReceipt.set(open.receipt, [...(byReceipt.get(open.receipt) ?? []), to]);
    }
    return Array.from(byReceipt, ([receipt, recipients]) => ({ receipt, recipients }));
  }
}
