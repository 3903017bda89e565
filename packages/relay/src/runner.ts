import {
  type Entry,
  type EntryId,
  type EntryState,
  type Env,
  type ForwardPath,
  type JournalRecord,
  type Outcome,
  type ReversePath,
  replyText,
  type Spool,
  SpoolError,
} from '@postern/core';
import { statusOf } from './dsn.ts';
import type { OnRelayEvent } from './event.ts';
import { envelopeFor, type HostCourier, type Item, type Job, Lane } from './lane.ts';
import { type Bounces, createNotices, type Notices } from './notices.ts';
import { type CompiledRoutes, type Route, routeKey } from './routes.ts';
import { backoff, DEFAULT_SCHEDULE, type Schedule } from './schedule.ts';

/** Wait before what the spool refused to record is tried again, ms. */
const SPOOL_RETRY_MS = 60_000;
/** Entries placed at the start before other work gets its turn. */
const PLACE_BATCH = 512;
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

/** Why an entry waits, for people. */
export interface Waiting {
  /** Wall clock, ms, of the next try; absent while that depends on a link, a route or a person. */
  readonly next?: number;
  readonly reason: string;
  /** A courier has it. */
  readonly active: boolean;
  /** The route of each recipient now. */
  readonly recipients: readonly { readonly to: ForwardPath; readonly route?: number; readonly host?: string }[];
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

/** Recipients still to be tried. */
function openRecipients(state: EntryState): ForwardPath[] {
  return state.recipients
    .filter(({ outcome }) => outcome === undefined || outcome.type === 'deferred' || outcome.type === 'uncertain')
    .map(({ to }) => to);
}

/** What an outcome's event needs of its message. */
interface Told {
  readonly item: { readonly id: EntryId };
  readonly from: ReversePath;
  readonly arrived: number;
}

class QueueRunner implements Runner {
  readonly #o: RunnerOptions;
  readonly #schedule: Schedule;
  readonly #onEvent: OnRelayEvent;
  readonly #notices: Notices;
  readonly #lanes = new Map<string, Lane>();
  readonly #noRoute = new Set<EntryId>();
  readonly #attempts = new Map<EntryId, number>();
  readonly #serial = new Map<EntryId, Promise<void>>();
  readonly #abort = new AbortController();
  readonly #arrivals: Disposable;
  readonly #retries = new Set<Disposable>();
  readonly #working = new Set<Promise<void>>();
  #placing: Promise<void>;
  #closed = false;

  constructor(o: RunnerOptions) {
    this.#o = o;
    this.#schedule = { ...DEFAULT_SCHEDULE, ...o.schedule };
    this.#onEvent = o.onEvent ?? (() => {});
    this.#notices = createNotices({ ...o, onEvent: this.#onEvent, schedule: this.#schedule });
    this.#arrivals = o.spool.onArrival((state) => this.#place(state));
    this.#placing = this.#placeAll();
  }

  async #placeAll(): Promise<void> {
    let count = 0;
    for (const state of this.#o.spool.entries()) {
      if (this.#closed) return;
      this.#place(state);
      if (++count % PLACE_BATCH === 0) await new Promise<void>((resolve) => setImmediate(resolve));
    }
  }

  /** Puts an entry into the lanes of its open recipients. */
  #place(state: EntryState): void {
    if (this.#closed || state.held) return;
    const open = openRecipients(state);
    if (open.length === 0) return void this.#conclude(state.id);
    const lost: ForwardPath[] = [];
    const routes = this.#o.routes();
    const keys = new Set<string>();
    for (const to of open) {
      const route = routes.take(to, state.envelope.from)?.route;
      if (route === undefined) lost.push(to);
      else if (!keys.has(routeKey(route))) {
        keys.add(routeKey(route));
        this.#lane(route).add(state.id, state.elapsed);
      }
    }
    if (lost.length === 0) this.#noRoute.delete(state.id);
    else if (!this.#noRoute.has(state.id)) {
      this.#noRoute.add(state.id);
      this.#onEvent({ type: 'no-route', id: state.id, to: lost });
    }
  }

  #lane(route: Route): Lane {
    const key = routeKey(route);
    let lane = this.#lanes.get(key);
    if (lane === undefined) {
      lane = new Lane(this.#laneContext(), key, route);
      this.#lanes.set(key, lane);
    }
    return lane;
  }

  #laneContext(): ConstructorParameters<typeof Lane>[0] {
    return {
      env: this.#o.env,
      schedule: this.#schedule,
      signal: this.#abort.signal,
      courierFor: this.#o.courierFor,
      prepare: (lane, item) => this.#prepare(lane, item),
      attempting: (lane, job, receipt) => this.#attempting(lane, job, receipt),
      outcome: (lane, job, to, outcome) => this.#outcome(lane, job, to, outcome),
      unsent: (lane, job, how) => this.#unsent(lane, job, how),
      failed: (lane, { reason, waitMs }) => {
        this.#onEvent({ type: 'host-deferred', host: lane.host, reason, ...(waitMs === undefined ? {} : { waitMs }) });
        this.#sweepOld(lane);
      },
      error: (error) => this.#onEvent({ type: 'error', error }),
    };
  }

  /** Routes are asked again at every attempt: what belongs elsewhere now goes there. */
  #prepare(lane: Lane, item: Item): Job | undefined {
    const state = this.#o.spool.get(item.id);
    if (state === undefined || state.held) {
      lane.drop(item);
      return undefined;
    }
    const routes = this.#o.routes();
    const { from } = state.envelope;
    const open = openRecipients(state);
    const mine = open.filter((to) => {
      const route = routes.take(to, from)?.route;
      return route !== undefined && routeKey(route) === lane.key;
    });
    if (mine.length < open.length || mine.length === 0) this.#place(state);
    if (mine.length === 0) {
      lane.drop(item);
      return undefined;
    }
    if (lane.elapsed(item) >= this.#schedule.expireMs) {
      void this.#afterPass(lane, item, new Set(mine));
      return undefined;
    }
    const n = Math.max(state.attempts, this.#attempts.get(item.id) ?? 0) + 1;
    this.#attempts.set(item.id, n);
    const { arrived } = state;
    const entry = this.#entry(state, mine);
    return { item, entry, n, from, arrived, attempted: false, outcomes: new Map(), records: [], finished: false };
  }

  #entry(state: EntryState, mine: readonly ForwardPath[]): Entry {
    const { id, size } = state;
    const to = new Set(mine);
    const unresolved = state.unresolved
      .map(({ receipt, recipients }) => ({ receipt, recipients: recipients.filter((each) => to.has(each)) }))
      .filter(({ recipients }) => recipients.length > 0);
    return { id, size, envelope: envelopeFor(state.envelope, to), unresolved, open: () => this.#o.spool.read(id) };
  }

  #attempting(lane: Lane, job: Job, receipt: string | undefined): Promise<void> {
    return this.#o.spool.record(job.item.id, {
      type: 'attempt',
      at: this.#o.env.wallNow(),
      n: job.n,
      host: lane.host,
      to: job.entry.envelope.recipients.map(({ to }) => to),
      ...(receipt === undefined ? {} : { receipt }),
    });
  }

  /**
   * Outcomes of one pass are recorded as they come, and waited for at the last one: its caller goes on only then, and many recipients share
   * few syncs. For what is simply delivered the removal is the record.
   */
  async #outcome(lane: Lane, job: Job, to: ForwardPath, outcome: Outcome): Promise<void> {
    const { item, n } = job;
    job.outcomes.set(to, outcome);
    job.finished = job.outcomes.size === job.entry.envelope.recipients.length;
    const state = job.finished ? this.#o.spool.get(item.id) : undefined;
    if (state !== undefined && isAllDelivered(state, job)) {
      await this.#settle(lane, job, () =>
        this.#serially(item.id, async () => {
          await Promise.all(job.records);
          await this.#o.spool.remove(item.id);
          this.#tell(lane.host, job, to, outcome);
          this.#forget(item.id);
        }),
      );
      return;
    }
    const recorded = this.#o.spool
      .record(item.id, { type: 'outcome', at: this.#o.env.wallNow(), n, to, outcome })
      .then(() => this.#tell(lane.host, job, to, outcome));
    job.records.push(recorded);
    recorded.catch(() => {});
    if (!job.finished) return;
    await this.#settle(lane, job, async () => {
      await Promise.all(job.records);
      await this.#afterPass(lane, item, new Set(job.outcomes.keys()), outcome);
    });
  }

  /** What the spool does not take now is recorded later, not delivered again: the courier's word is known. */
  async #settle(lane: Lane, job: Job, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (isGone(error)) return lane.drop(job.item);
      this.#onEvent({ type: 'error', id: job.item.id, error });
      this.#later(async () => {
        const at = this.#o.env.wallNow();
        const records = Array.from(
          job.outcomes,
          ([to, outcome]) => ({ type: 'outcome', at, n: job.n, to, outcome }) as const,
        );
        await this.#settle(lane, job, async () => {
          await this.#o.spool.record(job.item.id, ...records);
          for (const { to, outcome } of records) this.#tell(lane.host, job, to, outcome);
          await this.#afterPass(lane, job.item, new Set(job.outcomes.keys()));
        });
      });
    }
  }

  #later(work: () => Promise<void>): void {
    const retry = this.#o.env.schedule(SPOOL_RETRY_MS, () => {
      this.#retries.delete(retry);
      if (this.#closed) return;
      const working = work().finally(() => this.#working.delete(working));
      this.#working.add(working);
    });
    this.#retries.add(retry);
  }

  /** What a courier pulled and gave back. An attempt that was begun and has no word is uncertain. */
  async #unsent(
    lane: Lane,
    job: Job,
    { reason, waitMs }: { reason: string; waitMs: number | undefined },
  ): Promise<void> {
    const missing = job.entry.envelope.recipients.filter(({ to }) => !job.outcomes.has(to));
    try {
      if (job.attempted) {
        for (const { to } of missing) await this.#outcome(lane, job, to, { type: 'uncertain' });
        return;
      }
      if (waitMs !== undefined && waitMs > 0) {
        await this.#o.spool.record(job.item.id, this.#next(lane, job.item, waitMs, reason));
      }
    } catch (error) {
      if (!isGone(error)) this.#onEvent({ type: 'error', id: job.item.id, error });
    }
    lane.back(job.item, waitMs ?? 0);
    this.#attempts.delete(job.item.id);
  }

  #next(lane: Lane, item: Item, waitMs: number, reason: string): JournalRecord {
    const at = this.#o.env.wallNow();
    return { type: 'next', at, due: at + waitMs, reason, elapsed: Math.round(lane.elapsed(item)) };
  }

  #tell(host: string, job: Told, to: ForwardPath, outcome: Outcome, expired = false): void {
    const reply = 'reply' in outcome ? outcome.reply : undefined;
    const status = { delivered: 'sent', deferred: 'deferred', failed: 'bounced', uncertain: 'uncertain' } as const;
    this.#onEvent({
      type: 'outcome',
      id: job.item.id,
      from: job.from,
      to,
      relay: host,
      delayMs: Math.max(0, this.#o.env.wallNow() - job.arrived),
      outcome,
      dsn: statusOf(outcome, expired ? 'expired' : undefined),
      status: expired ? 'expired' : status[outcome.type],
      text: reply === undefined ? ('reason' in outcome ? outcome.reason : 'no answer came') : replyText(reply),
    });
  }

  /** One after the other for each entry: its lanes may end at the same time. */
  #serially(id: EntryId, work: () => Promise<void>): Promise<void> {
    const done = (this.#serial.get(id) ?? Promise.resolve()).then(work);
    const quiet = done
      .catch(() => {})
      .then(() => {
        if (this.#serial.get(id) === quiet) this.#serial.delete(id);
      });
    this.#serial.set(id, quiet);
    return done;
  }

  /** After a courier has reported on `tried` in one lane: DSNs, the next try, a hold, or the end. */
  #afterPass(lane: Lane, item: Item, tried: ReadonlySet<ForwardPath>, last?: Outcome): Promise<void> {
    return this.#serially(item.id, async () => {
      const state = this.#o.spool.get(item.id);
      this.#attempts.delete(item.id);
      if (state === undefined) return lane.drop(item);
      const open = new Set(openRecipients(state));
      const waiting = state.recipients.filter(({ to }) => open.has(to) && tried.has(to));
      const elapsed = lane.elapsed(item);
      if (waiting.length > 0 && elapsed >= this.#schedule.expireMs) await this.#expire(lane, state, waiting);
      else if (waiting.some(({ uncertain, outcome }) => this.#mustHold(uncertain, outcome)))
        await this.#holdUncertain(lane, state);
      else if (waiting.length > 0) await this.#defer(lane, item, last ?? waiting.at(-1)?.outcome);
      if (waiting.length === 0) lane.drop(item);
      await this.#finish(item.id);
    }).catch((error: unknown) => {
      lane.back(item, SPOOL_RETRY_MS);
      lane.pump();
      if (!isGone(error)) this.#onEvent({ type: 'error', id: item.id, error });
    });
  }

  #mustHold(uncertain: number, outcome: Outcome | undefined): boolean {
    return outcome?.type === 'uncertain' && uncertain > 0 && uncertain % this.#schedule.holdAfterUncertain === 0;
  }

  async #defer(lane: Lane, item: Item, outcome: Outcome | undefined): Promise<void> {
    if (!lane.up && !(outcome !== undefined && 'reply' in outcome)) {
      // The link's fault: nothing is charged, and link-up makes it due.
      lane.back(item, 0);
      lane.pump();
      return;
    }
    item.deferrals++;
    const waitMs = backoff(this.#schedule, item.deferrals);
    const reason =
      outcome?.type === 'deferred'
        ? outcome.reason
        : 'the connection was lost before the answer came; it is tried again';
    await this.#o.spool.record(item.id, this.#next(lane, item, waitMs, reason));
    lane.back(item, waitMs);
    lane.pump();
    const state = this.#o.spool.get(item.id);
    const remaining = this.#schedule.expireMs - lane.elapsed(item);
    if (state === undefined || state.delayNotified || lane.elapsed(item) < this.#schedule.delayNoticeMs) return;
    await this.#notices.delayed(state, { host: lane.host, retryUntil: this.#o.env.wallNow() + remaining });
  }

  async #expire(lane: Lane, state: EntryState, waiting: EntryState['recipients']): Promise<void> {
    const at = this.#o.env.wallNow();
    const records = waiting.map(({ to, outcome }): JournalRecord => {
      const before = outcome?.type === 'deferred' ? outcome : undefined;
      const reason = `delivery time expired${before === undefined ? '' : `: ${before.reason}`}`;
      const expired: Outcome = {
        type: 'failed',
        reason,
        ...(before?.reply === undefined ? {} : { reply: before.reply }),
      };
      return { type: 'outcome', at, n: 0, to, outcome: expired };
    });
    await this.#o.spool.record(state.id, ...records);
    const about: Told = { item: state, from: state.envelope.from, arrived: state.arrived };
    for (const record of records) {
      if (record.type === 'outcome') this.#tell(lane.host, about, record.to, record.outcome, true);
    }
    const item = lane.items.get(state.id);
    if (item !== undefined) lane.drop(item);
  }

  async #holdUncertain(lane: Lane, state: EntryState): Promise<void> {
    const reason =
      `the connection to ${lane.host} was lost ${this.#schedule.holdAfterUncertain} times before its answer came; ` +
      'it may have arrived: release it to try again, or remove it';
    await this.#hold(state.id, reason);
  }

  async #hold(id: EntryId, reason: string): Promise<void> {
    await this.#o.spool.record(id, { type: 'hold', at: this.#o.env.wallNow(), reason });
    this.#takeOut(id);
    this.#onEvent({ type: 'held', id, reason });
  }

  #takeOut(id: EntryId): void {
    this.#noRoute.delete(id);
    for (const lane of this.#lanes.values()) {
      const item = lane.items.get(id);
      if (item !== undefined) lane.drop(item);
    }
  }

  #conclude(id: EntryId): Promise<void> {
    return this.#serially(id, () => this.#finish(id)).catch((error: unknown) => {
      if (!isGone(error)) this.#onEvent({ type: 'error', id, error });
      this.#later(async () => {
        const state = this.#o.spool.get(id);
        if (state !== undefined) this.#place(state);
      });
    });
  }

  /** Tells the sender what is to be told; when every recipient is done, the entry goes. */
  async #finish(id: EntryId): Promise<void> {
    const state = this.#o.spool.get(id);
    if (state === undefined) return;
    await this.#notices.final(state);
    if (openRecipients(state).length > 0 || state.held) return;
    await this.#o.spool.remove(id);
    this.#forget(id);
  }

  #forget(id: EntryId): void {
    this.#takeOut(id);
    this.#attempts.delete(id);
    this.#onEvent({ type: 'completed', id });
  }

  /** A host that refuses every session: what waits for it grows old without being pulled. */
  #sweepOld(lane: Lane): void {
    for (const item of [...lane.items.values()]) {
      if (item.busy || lane.elapsed(item) < this.#schedule.delayNoticeMs) continue;
      const state = this.#o.spool.get(item.id);
      if (state === undefined) continue;
      if (lane.elapsed(item) >= this.#schedule.expireMs)
        void this.#afterPass(lane, item, new Set(openRecipients(state)));
      else if (!state.delayNotified) {
        const retryUntil = this.#o.env.wallNow() + this.#schedule.expireMs - lane.elapsed(item);
        void this.#serially(item.id, () => this.#notices.delayed(state, { host: lane.host, retryUntil })).catch(
          (error) => this.#onEvent({ type: 'error', id: item.id, error }),
        );
      }
    }
  }

  flush(what?: string): boolean {
    if (what !== undefined && this.#o.spool.get(what as EntryId) !== undefined) {
      const lanes = [...this.#lanes.values()].filter((lane) => lane.items.has(what as EntryId));
      for (const lane of lanes) {
        lane.wake();
        lane.flush(what as EntryId);
      }
      return true;
    }
    const lanes = [...this.#lanes.values()].filter((lane) => what === undefined || lane.host === what);
    for (const lane of lanes) {
      lane.wake();
      lane.flush();
    }
    return what === undefined || lanes.length > 0;
  }

  async hold(id: EntryId, reason = 'held by hand'): Promise<boolean> {
    return await this.#ifThere(id, () => this.#hold(id, reason));
  }

  async release(id: EntryId): Promise<boolean> {
    return await this.#ifThere(id, async () => {
      await this.#o.spool.record(id, { type: 'release', at: this.#o.env.wallNow() });
      const state = this.#o.spool.get(id);
      if (state !== undefined) this.#place(state);
    });
  }

  async remove(id: EntryId): Promise<boolean> {
    return await this.#ifThere(id, async () => {
      this.#takeOut(id);
      await this.#o.spool.remove(id);
    });
  }

  async #ifThere(id: EntryId, work: () => Promise<void>): Promise<boolean> {
    if (this.#o.spool.get(id) === undefined) return false;
    await this.#serially(id, work);
    return true;
  }

  waiting(id: EntryId): Waiting | undefined {
    const state = this.#o.spool.get(id);
    if (state === undefined) return undefined;
    const routes = this.#o.routes();
    const recipients = state.recipients.map(({ to }) => {
      const taken = routes.take(to, state.envelope.from);
      const host = taken?.route.host ?? taken?.route.smarthost;
      return { to, ...(taken === undefined ? {} : { route: taken.index }), ...(host === undefined ? {} : { host }) };
    });
    if (state.held) return { reason: state.reason, active: false, recipients };
    const here = [...this.#lanes.values()].flatMap((lane) => {
      const item = lane.items.get(id);
      return item === undefined ? [] : [{ lane, item, next: lane.nextTry(item) }];
    });
    const times = here.flatMap(({ next }) => (next === undefined ? [] : [next]));
    const toWall = this.#o.env.wallNow() - this.#o.env.monotonicNow();
    const lost = this.#noRoute.has(id) ? 'no route takes a recipient' : '';
    const reason = here.map(({ lane }) => lane.reason).find((text) => text !== '') ?? (state.reason || lost);
    return {
      reason: reason || lost,
      active: here.some(({ item }) => item.busy),
      recipients,
      ...(times.length === 0 ? {} : { next: toWall + Math.min(...times) }),
    };
  }

  reload(): void {
    this.#noRoute.clear();
    this.#placing = this.#placing.then(() => this.#placeAll());
    for (const lane of this.#lanes.values()) lane.pump();
  }

  async idle(): Promise<void> {
    await this.#placing;
    for (const lane of this.#lanes.values()) await lane.settled();
    while (this.#serial.size + this.#working.size > 0) await Promise.all([...this.#serial.values(), ...this.#working]);
  }

  async close({ graceMs = DRAIN_MS } = {}): Promise<void> {
    this.#closed = true;
    this.#arrivals[Symbol.dispose]();
    for (const retry of this.#retries) retry[Symbol.dispose]();
    for (const lane of this.#lanes.values()) lane.close();
    const timer = this.#o.env.schedule(graceMs, () => this.#abort.abort(new Error('the queue runner is closing')));
    await this.idle();
    timer[Symbol.dispose]();
  }
}

/** Every recipient of the entry is delivered now, and nobody wants to hear of it. */
function isAllDelivered(state: EntryState, job: Job): boolean {
  return state.recipients.every(({ to, outcome, notified }) => {
    const latest = job.outcomes.get(to) ?? outcome;
    return latest?.type === 'delivered' && (!latest.relayed || notified);
  });
}

function isGone(error: unknown): boolean {
  return error instanceof SpoolError && error.code === 'gone';
}
