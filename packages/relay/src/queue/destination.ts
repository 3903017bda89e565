import { type EntryId, type Env, type ForwardPath, isLinkDown, type Outcome, SpoolError } from '@postern/core';
import type { Route } from '../route/routes.ts';
import { Backlog } from './backlog.ts';
import { type Job, Run } from './delivery.ts';
import { type HostCourier, Way } from './reachability.ts';
import { backoff, type Schedule } from './schedule.ts';

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
  disproved(job: Job, to: ForwardPath): Promise<void>;
  outcome(lane: Lane, job: Job, to: ForwardPath, outcome: Outcome): Promise<void>;
  /** The courier gave a job back undone, `reason` why. */
  unsent(lane: Lane, job: Job, o: { reason: string; waitMs: number | undefined }): Promise<void>;
  /** The host's session failed: look for what has become too old. */
  failed(lane: Lane, o: { reason: string; waitMs?: number }): void;
  error(error: unknown): void;
}

/** How long a lane trusts a link that is down and does not redial, before it asks for a channel anyway. */
const LINK_ASK_MS = 60_000;

/**
 * The queue of one route's goal. Ready entries are pulled by courier runs in the order they became ready; deferred ones wait until they are due. A session that
 * fails without a single reply makes the lane wait, not its entries; the entry that was next to be answered waits longer, and all that were out go alone
 * the next time, so that one bad message never blocks others. While the link is down nothing runs, nothing is charged and no time passes for what waits here.
 */
export class Lane {
  readonly key: string;
  readonly route: Route;
  /** Why it waits as a whole; empty when it does not. */
  reason = '';
  readonly #c: LaneContext;
  readonly #way: Way;
  readonly #backlog = new Backlog<Item>();
  readonly #runs = new Set<Run>();
  #idle: (() => void)[] = [];
  #notBefore = 0;
  #failures = 0;
  /** What was out when a session failed: each goes alone until it has a reply, so that a bad one takes no other along twice. */
  readonly #alone = new WeakSet<Item>();
  /** The entry that was next to be answered when the last session failed. */
  #suspect: EntryId | undefined;
  #timer: Disposable | undefined;
  #closed = false;

  constructor(c: LaneContext, key: string, route: Route) {
    this.#c = c;
    this.key = key;
    this.route = route;
    this.#way = new Way(c.env, () => c.courierFor(route), {
      opened: () => this.#opened(),
      changed: () => this.pump(),
    });
    this.#way.look();
  }

  /** The host's name. */
  get host(): string {
    return this.#way.target?.host ?? this.route.host ?? this.route.smarthost ?? '';
  }

  /** What waits here, or is out. */
  get items(): ReadonlyMap<EntryId, Item> {
    return this.#backlog.items;
  }

  /** How often the way was closed. */
  get downs(): number {
    return this.#way.downs;
  }

  /** The link was lost since the job was last attempted: what came of it is not its fault. */
  linkLost(job: Job): boolean {
    return this.#way.target?.link !== undefined && (!this.#way.up || this.#way.downs !== job.downs);
  }

  /** Queue life of an item, ms. */
  elapsed(item: Item): number {
    return this.#way.uptime - item.born;
  }

  /** When an item is tried next, monotonic ms; undefined while that depends on the link. */
  nextTry(item: Item): number | undefined {
    return this.#way.up || this.#way.target?.link === undefined
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
      born: Math.round(this.#way.uptime - elapsed),
    };
    this.#backlog.add(item);
    this.pump();
  }

  drop(item: Item): void {
    this.#backlog.drop(item);
  }

  /** It has not been dropped. */
  has(item: Item): boolean {
    return this.#backlog.has(item);
  }

  /** Puts an item back: due after `waitMs`, or at the end of what is ready. */
  back(item: Item, waitMs: number): void {
    if (!this.has(item)) return;
    if (waitMs <= 0) this.#backlog.ready(item);
    else this.#backlog.defer(item, this.#c.env.monotonicNow() + waitMs);
  }

  /** Takes back what couriers have not begun with, where any of it is to go elsewhere, or nowhere. */
  withdraw(elsewhere: (job: Job) => boolean): void {
    for (const run of this.#runs) if (run.jobs.some((job) => !job.finished && elsewhere(job))) run.withdraw();
  }

  /** Makes one entry, or all, due now, and forgets the host's back-off. */
  flush(id?: EntryId): void {
    this.#notBefore = 0;
    this.#failures = 0;
    if (id === undefined) this.#backlog.promote();
    else this.#backlog.hasten(id);
    this.pump();
  }

  /** Asks the link to dial now. */
  wake(): void {
    this.#way.wake();
  }

  #opened(): void {
    this.reason = '';
    if (this.#way.target?.link?.state.type !== 'up') return;
    this.#notBefore = 0;
    this.#failures = 0;
    this.#backlog.promote();
  }

  /** Starts what can start, and sets the timer for the rest. */
  pump(): void {
    if (this.#closed) return;
    const now = this.#c.env.monotonicNow();
    this.#backlog.promote(now);
    let wait = this.#waitMs(now);
    if (wait === 0 && this.#start()) wait = this.#waitMs(now);
    const due = this.#backlog.nextDue;
    const soonest = Math.min(
      wait || Number.POSITIVE_INFINITY,
      due === undefined ? Number.POSITIVE_INFINITY : due - now,
    );
    this.#timer?.[Symbol.dispose]();
    this.#timer = soonest === Number.POSITIVE_INFINITY ? undefined : this.#c.env.schedule(soonest, () => this.pump());
  }

  /** Milliseconds until a run may start; undefined: not by time. */
  #waitMs(now: number): number | undefined {
    if (this.#backlog.peek() === undefined) return undefined;
    this.#way.look();
    if (now < this.#notBefore) return this.#notBefore - now;
    const state = this.#way.target?.link?.state;
    if (state?.type !== 'down') return this.#nextRunMs(now);
    this.reason = state.error.message;
    if (state.retryAt !== undefined || state.error.permanent) return undefined;
    const waited = now - this.#way.since;
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
  #start(): boolean {
    const { target } = this.#way;
    if (target === undefined) {
      this.reason = `nothing delivers to ${this.host}`;
      return false;
    }
    const run = new Run({
      ...{
        target,
        backlog: this.#backlog,
        alone: this.#alone,
        signal: this.#c.signal,
        now: () => this.#c.env.monotonicNow(),
      },
      prepare: (item) => this.#c.prepare(this, item),
      attempting: (job, receipt) => {
        job.downs = this.#way.downs;
        return this.#c.attempting(this, job, receipt);
      },
      disproved: (job, to) => this.#c.disproved(job, to),
      outcome: (job, to, outcome) => {
        if ('reply' in outcome && target.link === undefined) this.#way.set(true);
        return this.#c.outcome(this, job, to, outcome);
      },
    });
    this.#runs.add(run);
    void this.#run(run, target)
      .catch((error) => this.#c.error(error))
      .then(() => {
        this.#runs.delete(run);
        if (this.#runs.size === 0) for (const resolve of this.#idle.splice(0)) resolve();
        this.pump();
      });
    return true;
  }

  async #run(run: Run, target: HostCourier): Promise<void> {
    let failure: { error: unknown } | undefined;
    await run.deliver().catch((error: unknown) => {
      failure = { error };
    });
    const undone = run.jobs.filter((job) => !job.finished);
    if (failure !== undefined) return await this.#failed(run, undone, failure.error);
    if (undone.length > 0 && undone.length === run.pulled)
      return await this.#failed(run, undone, new Error('the courier gave everything back'));
    if (run.pulled > 0) this.#failures = 0;
    this.reason = '';
    if (target.link === undefined) this.#way.set(true);
    for (const job of undone) await this.#c.unsent(this, job, { reason: '', waitMs: 0 });
  }

  async #failed(run: Run, undone: readonly Job[], error: unknown): Promise<void> {
    const reason = error instanceof Error ? error.message : String(error);
    const broken = error instanceof SpoolError && ['corrupt', 'gone'].includes(error.code);
    if (this.#closed || this.#c.signal.aborted || broken || run.withdrawn) {
      for (const job of undone) await this.#c.unsent(this, job, { reason: '', waitMs: 0 });
      return;
    }
    if (isLinkDown(error)) await this.#linkFailed(undone, reason);
    else await this.#sessionFailed(run, undone, reason);
  }

  async #linkFailed(undone: readonly Job[], reason: string): Promise<void> {
    const waitMs = backoff(this.#c.schedule, ++this.#failures);
    // While its state is down, the link itself tells when to go on; else it may be back already.
    const byLink = this.#way.target?.link !== undefined;
    if (!byLink) this.#way.set(false);
    const soon = 1000 * 2 ** Math.min(this.#failures - 1, 6);
    this.#notBefore = this.#c.env.monotonicNow() + (byLink ? Math.min(waitMs, soon) : waitMs);
    this.reason = reason;
    for (const job of undone) await this.#c.unsent(this, job, { reason, waitMs: undefined });
    this.#c.failed(this, { reason });
  }

  /**
   * Replies come in order: the first entry without one is the likeliest to have ended the session, and it alone is deferred. The host is to blame too when it
   * answered nothing at all; when the same entry ends one session after the other, the host's own back-off stays where it is.
   */
  async #sessionFailed(run: Run, undone: readonly Job[], reason: string): Promise<void> {
    const { schedule, env } = this.#c;
    const { answered, unanswered } = run;
    for (const { item } of unanswered) this.#alone.add(item);
    const [first] = unanswered;
    const again = first !== undefined && first.item.id === this.#suspect;
    this.#suspect = first?.item.id;
    if (answered) this.#failures = 0;
    else if (!again || this.#failures === 0) this.#failures++;
    const hostMs = answered ? 0 : backoff(schedule, this.#failures);
    if (hostMs > 0) {
      this.#notBefore = env.monotonicNow() + hostMs;
      this.reason = reason;
    }
    for (const job of undone) {
      const waitMs = job === first && !job.attempted ? backoff(schedule, ++job.item.deferrals) : 0;
      await this.#c.unsent(this, job, { reason, waitMs });
    }
    if (hostMs > 0) this.#c.failed(this, { reason, waitMs: hostMs });
  }

  /** Resolves when no courier runs. */
  settled(): Promise<void> {
    return this.#runs.size === 0 ? Promise.resolve() : new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Starts nothing more. */
  close(): void {
    this.#closed = true;
    for (const run of this.#runs) run.end();
    this.#timer?.[Symbol.dispose]();
    this.#way.close();
  }
}
