import {
  type Courier,
  type CourierReport,
  type Entry,
  type EntryId,
  type Env,
  type Envelope,
  type ForwardPath,
  isLinkDown,
  type Link,
  type Outcome,
  type ReversePath,
  SpoolError,
} from '@postern/core';
import { createHeap } from './heap.ts';
import type { Route } from './routes.ts';
import { backoff, type Schedule } from './schedule.ts';

/** What delivers to a host. */
export interface HostCourier {
  /** Its name, for people and journals. */
  readonly host: string;
  readonly courier: Courier;
  /** The link the courier uses; absent for a plain smarthost. */
  readonly link?: Link;
}

/** One entry's place in a lane. */
export interface Item {
  readonly id: EntryId;
  /** Monotonic ms at which it is due; 0: now. */
  due: number;
  /** A courier has it. */
  busy: boolean;
  /** Charged deferrals since it came here. */
  deferrals: number;
  /** The lane's uptime, whole ms, at which its queue life began; negative when that was before the lane. */
  readonly born: number;
}

/** One pull of an entry by a courier. */
export interface Job {
  readonly item: Item;
  readonly entry: Entry;
  readonly n: number;
  attempted: boolean;
  readonly outcomes: Map<ForwardPath, Outcome>;
  /** Outcomes being recorded. */
  readonly records: Promise<void>[];
  /** Of the message. */
  readonly from: ReversePath;
  readonly arrived: number;
  /** Set when every recipient has its outcome. */
  finished: boolean;
}

/** What a lane needs from the runner. */
export interface LaneContext {
  readonly env: Env;
  readonly schedule: Schedule;
  /** Aborts couriers. */
  readonly signal: AbortSignal;
  courierFor(route: Route): HostCourier | undefined;
  /** The job for an item, or undefined when there is nothing to try now. */
  prepare(lane: Lane, item: Item): Job | undefined;
  attempting(lane: Lane, job: Job, receipt: string | undefined): Promise<void>;
  outcome(lane: Lane, job: Job, to: ForwardPath, outcome: Outcome): Promise<void>;
  /** The courier gave a job back undone, `reason` why. */
  unsent(lane: Lane, job: Job, o: { reason: string; waitMs: number | undefined }): Promise<void>;
  /** The host's session failed: look for what has become too old. */
  failed(lane: Lane, o: { reason: string; waitMs?: number }): void;
  error(error: unknown): void;
}

/** How long a lane trusts a link that is down and does not redial, before it asks for a channel anyway. */
const LINK_ASK_MS = 60_000;

interface Run {
  readonly jobs: Map<EntryId, Job>;
  /** When it last pulled an entry, monotonic ms. */
  pulledAt: number;
}

/**
 * The queue of one route's goal. Ready entries are pulled by courier runs in the order they became ready; deferred ones wait in a heap. A failed session
 * makes the lane wait, not its entries, and what the failed session had pulled goes to the end, so that one bad message never blocks others. While
 * the link is down nothing runs, nothing is charged and no time passes for what waits here.
 */
export class Lane {
  readonly key: string;
  readonly route: Route;
  readonly items: Map<EntryId, Item> = new Map();
  /** Why it waits as a whole; empty when it does not. */
  reason = '';
  readonly #c: LaneContext;
  #ready: Item[] = [];
  #head = 0;
  readonly #waiting = createHeap<Item>();
  readonly #runs = new Set<Run>();
  readonly #idle = new Set<() => void>();
  #notBefore = 0;
  #failures = 0;
  #up = true;
  #uptime = 0;
  #upSince: number;
  #timer: Disposable | undefined;
  #target: HostCourier | undefined;
  #watch: Disposable | undefined;
  #closed = false;

  constructor(c: LaneContext, key: string, route: Route) {
    this.#c = c;
    this.key = key;
    this.route = route;
    this.#upSince = c.env.monotonicNow();
    this.#retarget();
  }

  /** The host's name. */
  get host(): string {
    return this.#target?.host ?? this.route.host ?? this.route.smarthost ?? '';
  }

  /** The way to the host is open, as far as is known. */
  get up(): boolean {
    return this.#up;
  }

  /** Milliseconds for which the way to the host was open. */
  #uptimeNow(): number {
    return this.#uptime + (this.#up ? this.#c.env.monotonicNow() - this.#upSince : 0);
  }

  /** Queue life of an item, ms. */
  elapsed(item: Item): number {
    return this.#uptimeNow() - item.born;
  }

  /** When an item is tried next, monotonic ms; undefined while that depends on the link. */
  nextTry(item: Item): number | undefined {
    return this.#up || this.#target?.link === undefined
      ? Math.max(item.due, this.#notBefore, this.#c.env.monotonicNow())
      : undefined;
  }

  /** Puts an entry in, due now. Nothing happens when it is here. */
  add(id: EntryId, elapsed: number): void {
    if (this.items.has(id) || this.#closed) return;
    const item: Item = {
      id,
      due: 0,
      busy: false,
      deferrals: 0,
      born: Math.round(this.#uptimeNow() - elapsed),
    };
    this.items.set(id, item);
    this.#push(item);
    this.pump();
  }

  drop(item: Item): void {
    if (this.items.get(item.id) === item) this.items.delete(item.id);
  }

  /** Puts an item back: due after `waitMs`, or at the end of what is ready. */
  back(item: Item, waitMs: number): void {
    item.busy = false;
    if (this.items.get(item.id) !== item) return;
    if (waitMs <= 0) {
      this.#push(item);
      return;
    }
    item.due = this.#c.env.monotonicNow() + waitMs;
    this.#waiting.push(item.due, item);
  }

  #push(item: Item): void {
    item.due = 0;
    this.#ready.push(item);
  }

  /** Makes one entry, or all, due now, and forgets the host's back-off. */
  flush(id?: EntryId): void {
    this.#notBefore = 0;
    this.#failures = 0;
    for (const item of id === undefined ? this.items.values() : [this.items.get(id)]) {
      if (item !== undefined && !item.busy && item.due !== 0) this.#push(item);
    }
    this.pump();
  }

  /** Asks the link to dial now. */
  wake(): void {
    this.#retarget();
    this.#target?.link?.wake('flush');
    if (this.#target?.link === undefined) this.#setUp(true);
  }

  /** The courier may have changed. */
  #retarget(): void {
    const target = this.#c.courierFor(this.route);
    if (target?.link !== this.#target?.link || target === undefined) {
      this.#watch?.[Symbol.dispose]();
      this.#watch = target?.link?.watch(() => this.#linkChanged());
    }
    this.#target = target;
    const state = target?.link?.state.type;
    if (state !== undefined) this.#setUp(state === 'up' || state === 'idle');
  }

  #linkChanged(): void {
    const state = this.#target?.link?.state.type;
    const wasUp = this.#up;
    this.#setUp(state === 'up' || state === 'idle');
    if (state === 'up' && !wasUp) this.flush();
    else this.pump();
  }

  #setUp(up: boolean): void {
    if (up === this.#up) return;
    const now = this.#c.env.monotonicNow();
    if (this.#up) this.#uptime += now - this.#upSince;
    this.#upSince = now;
    this.#up = up;
    if (up) this.reason = '';
  }

  /** Starts what can start, and sets the timer for the rest. */
  pump(): void {
    if (this.#closed) return;
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
    const now = this.#c.env.monotonicNow();
    for (let due = this.#waiting.peek(); due !== undefined && due <= now; due = this.#waiting.peek()) {
      const item = this.#waiting.pop();
      if (item !== undefined && item.due === due && this.items.get(item.id) === item) this.#push(item);
    }
    let wait = this.#waitMs(now);
    if (wait === 0 && this.#start(now)) wait = this.#waitMs(now);
    const due = this.#waiting.peek();
    const soonest = Math.min(
      wait || Number.POSITIVE_INFINITY,
      due === undefined ? Number.POSITIVE_INFINITY : due - now,
    );
    if (soonest !== Number.POSITIVE_INFINITY) this.#timer = this.#c.env.schedule(soonest, () => this.pump());
  }

  /** Milliseconds until a run may start; undefined: not by time. */
  #waitMs(now: number): number | undefined {
    if (this.#ready.length === this.#head) return undefined;
    if (now < this.#notBefore) return this.#notBefore - now;
    this.#retarget();
    const state = this.#target?.link?.state;
    if (state?.type !== 'down') return this.#nextRunMs(now);
    this.reason = state.error.message;
    if (state.retryAt !== undefined || state.error.permanent) return undefined;
    const waited = now - this.#upSince;
    return waited >= LINK_ASK_MS ? this.#nextRunMs(now) : LINK_ASK_MS - waited;
  }

  /** One run takes all there is; another starts beside it only when it has been busy with one entry for a while. */
  #nextRunMs(now: number): number | undefined {
    const { concurrency, stallMs } = this.#c.schedule;
    if (this.#runs.size === 0) return 0;
    if (this.#runs.size >= concurrency) return undefined;
    const quiet = Math.min(...Array.from(this.#runs, (run) => now - run.pulledAt));
    return Math.max(0, stallMs - quiet);
  }

  /** False when there is no courier. */
  #start(now: number): boolean {
    const target = this.#target;
    if (target === undefined) {
      this.reason = `nothing delivers to ${this.host}`;
      return false;
    }
    const run: Run = { jobs: new Map(), pulledAt: now };
    this.#runs.add(run);
    void this.#run(run, target).then(
      () => this.#ended(run),
      (error) => {
        this.#c.error(error);
        this.#ended(run);
      },
    );
    return true;
  }

  #ended(run: Run): void {
    this.#runs.delete(run);
    if (this.#runs.size === 0) for (const resolve of this.#idle) resolve();
    this.pump();
  }

  #take(): Item | undefined {
    while (this.#head < this.#ready.length) {
      const item = this.#ready[this.#head++];
      if (this.#head > 1024 && this.#head * 2 > this.#ready.length) {
        this.#ready = this.#ready.slice(this.#head);
        this.#head = 0;
      }
      if (item !== undefined && !item.busy && item.due === 0 && this.items.get(item.id) === item) return item;
    }
    this.#ready = [];
    this.#head = 0;
    return undefined;
  }

  async *#batch(run: Run): AsyncGenerator<Entry> {
    for (let item = this.#take(); item !== undefined && !this.#closed; item = this.#take()) {
      item.busy = true;
      const job = this.#c.prepare(this, item);
      if (job === undefined) continue;
      run.jobs.set(item.id, job);
      run.pulledAt = this.#c.env.monotonicNow();
      yield job.entry;
    }
  }

  async #run(run: Run, target: HostCourier): Promise<void> {
    const job = (id: EntryId): Job => {
      const found = run.jobs.get(id);
      if (found === undefined) throw new SpoolError(`the courier was not given ${id}`, { code: 'gone' });
      return found;
    };
    const report: CourierReport = {
      signal: this.#c.signal,
      attempting: async (id, { receipt }) => {
        const found = job(id);
        await this.#c.attempting(this, found, receipt);
        found.attempted = true;
      },
      outcome: (id, to, outcome) => this.#c.outcome(this, job(id), to, outcome),
    };
    let failure: { error: unknown } | undefined;
    try {
      await target.courier(this.#batch(run), report);
    } catch (error) {
      failure = { error };
    }
    const undone = [...run.jobs.values()].filter((each) => !each.finished);
    const progress = run.jobs.size > undone.length || run.jobs.size === 0;
    if (failure === undefined && (undone.length === 0 || progress)) {
      this.#failures = 0;
      this.reason = '';
      if (target.link === undefined) this.#setUp(true);
      for (const each of undone) await this.#c.unsent(this, each, { reason: '', waitMs: 0 });
      return;
    }
    await this.#failed(undone, failure?.error ?? new Error('the courier gave everything back'));
  }

  async #failed(undone: readonly Job[], error: unknown): Promise<void> {
    const reason = error instanceof Error ? error.message : String(error);
    const now = this.#c.env.monotonicNow();
    const broken = error instanceof SpoolError && ['corrupt', 'gone'].includes(error.code);
    if (this.#closed || this.#c.signal.aborted || broken) {
      for (const job of undone) await this.#c.unsent(this, job, { reason: '', waitMs: 0 });
      return;
    }
    this.reason = reason;
    this.#failures++;
    const waitMs = backoff(this.#c.schedule, this.#failures);
    const down = isLinkDown(error);
    if (down && this.#target?.link === undefined) this.#setUp(false);
    // While its state is down, the link itself tells when to go on; else it may be back already.
    const byLink = down && this.#target?.link !== undefined;
    this.#notBefore = now + (byLink ? Math.min(waitMs, 1000 * 2 ** Math.min(this.#failures - 1, 6)) : waitMs);
    for (const job of undone) await this.#c.unsent(this, job, { reason, waitMs: down ? undefined : waitMs });
    this.#c.failed(this, down ? { reason } : { reason, waitMs });
  }

  /** Resolves when no courier runs. */
  settled(): Promise<void> {
    return this.#runs.size === 0 ? Promise.resolve() : new Promise((resolve) => this.#idle.add(resolve));
  }

  /** Starts nothing more. */
  close(): void {
    this.#closed = true;
    this.#timer?.[Symbol.dispose]();
    this.#watch?.[Symbol.dispose]();
  }
}

/** The envelope of some of an entry's recipients. */
export function envelopeFor(envelope: Envelope, to: ReadonlySet<ForwardPath>): Envelope {
  return { ...envelope, recipients: envelope.recipients.filter((recipient) => to.has(recipient.to)) };
}
