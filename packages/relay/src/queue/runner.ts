import type { EntryId, EntryState, Env, Spool } from '@postern/core';
import { type Bounces, createNotices } from '../dsn/notify.ts';
import type { OnRelayEvent } from '../event.ts';
import type { CompiledRoutes, Route } from '../route/routes.ts';
import { Attempts } from './attempts.ts';
import { BATCH, openRecipients, otherWork, type QueueContext } from './context.ts';
import type { LaneContext } from './destination.ts';
import { Aftermath } from './disposition.ts';
import { Serial } from './per-entry.ts';
import type { HostCourier } from './reachability.ts';
import { Placement, type Waiting } from './router.ts';
import { DEFAULT_SCHEDULE, type Schedule } from './schedule.ts';

/** How long close() lets couriers finish, ms. */
const DRAIN_MS = 5_000;

/** Options of a runner. */
export interface RunnerOptions {
  readonly spool: Spool;
  /** The routes as they are now; asked at every attempt. */
  readonly routes: () => CompiledRoutes;
  /** What delivers for a route now; undefined holds its mail. Asked before every run. */
  readonly courierFor: (route: Route) => HostCourier | undefined;
  /** Where a DSN goes that no route takes, and a DSN that could not be delivered. */
  readonly bounces: Bounces;
  readonly env: Env;
  /** Our name in DSNs. */
  readonly hostname: string;
  readonly schedule?: Partial<Schedule>;
  readonly onEvent?: OnRelayEvent;
}

/** A running queue. */
export interface Runner {
  /** Makes an entry, a host's entries, or all due; resets back-off and wakes the links concerned. False when there is no such entry or host. */
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
  readonly #serial: Serial;
  readonly #placement: Placement;
  readonly #aftermath: Aftermath;
  readonly #attempts: Attempts;
  readonly #abort = new AbortController();
  readonly #arrivals: Disposable;
  #placing: Promise<void>;
  #closed = false;

  constructor(o: RunnerOptions) {
    const c = { ...o, schedule: { ...DEFAULT_SCHEDULE, ...o.schedule }, onEvent: o.onEvent ?? (() => {}) };
    this.#c = c;
    const serial = new Serial(c.env);
    const placement = new Placement(c, this.#laneContext());
    const notices = createNotices({
      ...c,
      withhold: (id) => placement.withhold(id),
      release: (id) => placement.release(id),
    });
    const aftermath = new Aftermath(c, { serial, placement, notices });
    this.#serial = serial;
    this.#placement = placement;
    this.#aftermath = aftermath;
    this.#attempts = new Attempts(c, { serial, placement, aftermath });
    this.#arrivals = c.spool.onArrival((state) => this.#place(state));
    this.#placing = this.#placeAll();
  }

  #laneContext(): LaneContext {
    const { env, schedule, courierFor, onEvent } = this.#c;
    return {
      ...{ env, schedule, courierFor, signal: this.#abort.signal },
      prepare: (lane, item) => this.#attempts.prepare(lane, item),
      attempting: (lane, job, receipt) => this.#attempts.attempting(lane, job, receipt),
      disproved: (job, to) => this.#attempts.disproved(job, to),
      outcome: (lane, job, to, outcome) => this.#attempts.outcome(lane, job, to, outcome),
      unsent: (lane, job, how) => this.#attempts.unsent(lane, job, how),
      failed: (lane, { reason, waitMs }) => {
        onEvent({ type: 'host-deferred', host: lane.host, reason, ...(waitMs === undefined ? {} : { waitMs }) });
        this.#aftermath.sweepOld(lane);
      },
      error: (error) => onEvent({ type: 'error', error }),
    };
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
    for (const { dsn } of state.notifying) this.#placement.withhold(dsn as EntryId);
    if (state.notifying.length > 0) void this.#aftermath.conclude(state.id);
    if (state.held) return;
    if (openRecipients(state).length === 0) void this.#aftermath.conclude(state.id);
    else this.#placement.place(state);
  }

  flush(what?: string): boolean {
    if (what === undefined) return this.#placement.flush() || true;
    const id = what as EntryId;
    if (this.#c.spool.get(id) === undefined) return this.#placement.flush({ host: what });
    this.#placement.flush({ id });
    return true;
  }

  async hold(id: EntryId, reason = 'held by hand'): Promise<boolean> {
    return await this.#ifThere(id, () => this.#aftermath.hold(id, reason));
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
      this.#placement.takeOut(id);
      await this.#c.spool.remove(id);
    });
  }

  async #ifThere(id: EntryId, work: () => Promise<void>): Promise<boolean> {
    if (this.#c.spool.get(id) === undefined) return false;
    await this.#serial.run(id, work);
    return true;
  }

  waiting(id: EntryId): Waiting | undefined {
    const state = this.#c.spool.get(id);
    return state === undefined ? undefined : this.#placement.waiting(state);
  }

  reload(): void {
    this.#placement.forgetRoutes();
    this.#placing = this.#placing.then(() => this.#placeAll());
    for (const lane of this.#placement.lanes.values()) lane.pump();
  }

  async idle(): Promise<void> {
    await this.#placing;
    for (const lane of this.#placement.lanes.values()) await lane.settled();
    await this.#serial.idle();
  }

  async close({ graceMs = DRAIN_MS } = {}): Promise<void> {
    this.#closed = true;
    this.#arrivals[Symbol.dispose]();
    this.#serial.close();
    this.#placement.close();
    const timer = this.#c.env.schedule(graceMs, () => this.#abort.abort(new Error('the queue runner is closing')));
    await this.idle();
    timer[Symbol.dispose]();
  }
}
