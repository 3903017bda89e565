/**
 * Puts the rooms of the queue together, and has the verbs of `postern queue`; it decides nothing about an entry itself.
 */
import type { EntryId, EntryState } from '@postern/core';
import { Notices } from '../dsn/notify.ts';
import { Attempts } from './attempts.ts';
import { BATCH, openRecipients, otherWork, type QueueContext, type RunnerOptions } from './context.ts';
import { Disposition } from './disposition.ts';
import { PerEntry } from './per-entry.ts';
import { Router, type Waiting } from './router.ts';
import { DEFAULT_SCHEDULE } from './schedule.ts';

/** How long close() lets couriers finish, ms. */
const DRAIN_MS = 5_000;

/** A running queue. */
export interface Runner {
  /**
   * Makes an entry, a host's entries, or all due; resets back-off and wakes the links concerned. False when there is no
   * such entry or host.
   */
  flush(what?: string): boolean;
  /** Holds an entry until it is released. False when there is no such entry. */
  hold(id: EntryId, reason?: string): Promise<boolean>;
  release(id: EntryId): Promise<boolean>;
  /** Forgets an entry without a DSN. */
  remove(id: EntryId): Promise<boolean>;
  /** What is known of an entry beside its state. */
  waiting(id: EntryId): Waiting | undefined;
  /** Routes or couriers changed: every entry is placed anew. */
  reload(): void;
  /** Resolves when no courier runs and nothing is being recorded. */
  idle(): Promise<void>;
  /** Stops pulling, gives couriers `graceMs` (5 s), aborts them, waits for their outcomes. */
  close(o?: { graceMs?: number }): Promise<void>;
}

/** Starts delivering what is in the spool and what arrives. Recovered entries are due at once. */
export function createRunner(o: RunnerOptions): Runner {
  return new QueueRunner(o);
}

class QueueRunner implements Runner {
  readonly #c: QueueContext;
  readonly #perEntry: PerEntry;
  readonly #router: Router;
  readonly #disposition: Disposition;
  readonly #attempts: Attempts;
  readonly #abort = new AbortController();
  readonly #arrivals: Disposable;
  #placing: Promise<void>;
  #closed = false;

  constructor(o: RunnerOptions) {
    const c = {
      ...o,
      schedule: { ...DEFAULT_SCHEDULE, ...o.schedule },
      onEvent: o.onEvent ?? (() => {}),
      signal: this.#abort.signal,
    };
    this.#c = c;
    const perEntry = new PerEntry(c.env);
    const router = new Router(c, () => this.#attempts);
    const notices = new Notices({
      ...c,
      withhold: (id) => router.withhold(id),
      release: (id) => router.release(id),
    });
    const disposition = new Disposition(c, { perEntry, router, notices });
    this.#perEntry = perEntry;
    this.#router = router;
    this.#disposition = disposition;
    this.#attempts = new Attempts(c, { perEntry, router, disposition });
    this.#arrivals = c.spool.onArrival((state) => this.#place(state));
    this.#placing = this.#placeAll();
  }

  async #placeAll(): Promise<void> {
    let count = 0;
    for (const state of this.#c.spool.entries()) {
      if (this.#closed) return;
      this.#place(state);
      if (++count % BATCH === 0) await otherWork();
    }
  }

  #place(state: EntryState): void {
    if (this.#closed) return;
    for (const { dsn } of state.notifying) this.#router.withhold(dsn as EntryId);
    if (state.notifying.length > 0) void this.#disposition.finish(state.id);
    if (state.held) return;
    if (openRecipients(state).length === 0) void this.#disposition.finish(state.id);
    else this.#router.place(state);
  }

  flush(what?: string): boolean {
    if (what === undefined) {
      this.#router.flush();
      return true;
    }
    const id = what as EntryId;
    if (this.#c.spool.get(id) === undefined) return this.#router.flush({ host: what });
    this.#router.flush({ id });
    return true;
  }

  async hold(id: EntryId, reason = 'held by hand'): Promise<boolean> {
    return await this.#ifThere(id, () => this.#disposition.hold(id, reason));
  }

  async release(id: EntryId): Promise<boolean> {
    return await this.#ifThere(id, async () => {
      await this.#c.spool.record(id, { type: 'release', at: this.#c.env.wallNow() });
      const state = this.#c.spool.get(id);
      if (state !== undefined) this.#place(state);
    });
  }

  async remove(id: EntryId): Promise<boolean> {
    return await this.#ifThere(id, async () => {
      this.#router.takeOut(id);
      await this.#c.spool.remove(id);
    });
  }

  async #ifThere(id: EntryId, work: () => Promise<void>): Promise<boolean> {
    if (this.#c.spool.get(id) === undefined) return false;
    await this.#perEntry.run(id, work);
    return true;
  }

  waiting(id: EntryId): Waiting | undefined {
    const state = this.#c.spool.get(id);
    return state === undefined ? undefined : this.#router.waiting(state);
  }

  reload(): void {
    this.#router.forgetRoutes();
    this.#placing = this.#placing.then(() => this.#placeAll());
    for (const destination of this.#router.destinations.values()) destination.pump();
  }

  async idle(): Promise<void> {
    await this.#placing;
    for (const destination of this.#router.destinations.values()) await destination.settled();
    await this.#perEntry.idle();
  }

  async close({ graceMs = DRAIN_MS } = {}): Promise<void> {
    this.#closed = true;
    this.#arrivals[Symbol.dispose]();
    this.#perEntry.close();
    this.#router.close();
    const timer = this.#c.env.schedule(graceMs, () => this.#abort.abort(new Error('the queue runner is closing')));
    await this.idle();
    timer[Symbol.dispose]();
  }
}
