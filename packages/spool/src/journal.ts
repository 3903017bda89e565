import type {
  Entry,
  EntryState,
  Envelope,
  ForwardPath,
  JournalRecord,
  Notice,
  Outcome,
  RecipientState,
} from '@postern/core';
import { crc32 } from './crc.ts';

/**
 * An entry's journal: one record a line, `crc8hex SP JSON LF`, the checksum over the JSON. Lines are only ever appended. A power cut
 * may tear the tail off: the last line counts only with its LF and its checksum, and what follows the last good line is cut away before the
 * next append. A bad line with good ones after it is damage, which no power cut makes.
 */
export function journalLine(record: JournalRecord): Buffer {
  const json = Buffer.from(JSON.stringify(record));
  return Buffer.concat([Buffer.from(`${crc32(json)} `), json, Buffer.from('\n')]);
}

/** What a journal's bytes say. */
export interface ParsedJournal {
  readonly records: readonly JournalRecord[];
  /** Octets up to the end of the last good line: where the next one goes. */
  readonly length: number;
  /** The first bad line that has a good one after it: its number, and the number of good records before it. */
  readonly damaged?: { readonly line: number; readonly at: number };
}

/** Reads a journal. */
export function parseJournal(bytes: Buffer): ParsedJournal {
  const records: JournalRecord[] = [];
  let length = 0;
  let bad: ParsedJournal['damaged'];
  let damaged: ParsedJournal['damaged'];
  let line = 0;
  for (let start = 0; start < bytes.length; ) {
    const end = bytes.indexOf(10, start);
    if (end < 0) break;
    line++;
    const record = parseLine(bytes.subarray(start, end));
    if (record === undefined) bad ??= { line, at: records.length };
    else {
      damaged ??= bad;
      records.push(record);
      length = end + 1;
    }
    start = end + 1;
  }
  return { records, length, ...(damaged === undefined ? {} : { damaged }) };
}

function parseLine(line: Buffer): JournalRecord | undefined {
  const json = line.subarray(9);
  if (line.length < 11 || line[8] !== 32 || line.toString('latin1', 0, 8) !== crc32(json)) return undefined;
  try {
    return JSON.parse(json.toString()) as JournalRecord;
  } catch {
    return undefined;
  }
}

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
  /** The last attempt with no definite outcome. A newer attempt takes its place: whoever made it looked at the receipt first. */
  open: OpenAttempt | undefined;
}

const NONE: readonly Notice[] = [];

/** The state of an entry with no records. Written out, not spread: V8 puts spread literals straight into the old generation, 1 KB an entry. */
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
        if (record.n === 0 && record.outcome.type === 'deferred') this.#disprove(this.#tally(record.to));
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
  #disprove(tally: Tally): void {
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

  /** The state in the words of core. */
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
