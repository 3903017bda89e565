/**
 * The queue toward one host. Ready entries are pulled by deliveries in the order they became ready; deferred ones wait
 * until they are due. While the link is down nothing runs, nothing is charged, and no time passes for what waits here.
 *
 * A session that fails without a single reply makes the destination wait, not its entries; the entry that was next to
 * be answered waits longer, and all that were out go one at a time the next time, so that one bad message never blocks
 * others.
 */
import { defined, type EntryId, isLinkDown, SpoolError, type Wait } from '@postern/core';
import { type Route, routeKey } from '../route/routes.ts';
import { Backlog } from './backlog.ts';
import type { HostCourier, QueueContext } from './context.ts';
import { Delivery } from './delivery.ts';
import type { AttemptDesk, Destination, Item, Job } from './job.ts';
import { Reachability } from './reachability.ts';
import { backoff } from './schedule.ts';

/** How long a destination trusts a link that is down and does not redial, before it asks for a channel anyway. */
const LINK_ASK_MS = 60_000;

/** What waits for one host, and the deliveries that take it there. */
export class DestinationQueue implements Destination {
  readonly key: string;
  readonly route: Route;
  /** Why it waits as a whole; empty when it does not. */
  reason = '';
  readonly #c: QueueContext;
  readonly #desk: AttemptDesk;
  readonly #reachability: Reachability;
  readonly #backlog = new Backlog<Item>();
  readonly #deliveries = new Set<Delivery>();
  #idle: (() => void)[] = [];
  #notBefore = 0;
  #failures = 0;
  /**
   * What was out when a session failed: each goes by itself until it has a reply, so that a bad one takes no other
   * along twice.
   */
  readonly #isolated = new WeakSet<Item>();
  /** The entry that was next to be answered when the last session failed. */
  #suspect: EntryId | undefined;
  #timer: Disposable | undefined;
  #closed = false;

  constructor(c: QueueContext, { route, desk }: { route: Route; desk: AttemptDesk }) {
    this.#c = c;
    this.#desk = desk;
    this.key = routeKey(route);
    this.route = route;
    this.#reachability = new Reachability(c.env, () => c.courierFor(route), {
      opened: () => this.#opened(),
      changed: () => this.pump(),
    });
    this.#reachability.look();
  }

  /** The host's name. */
  get host(): string {
    return this.#reachability.target?.host ?? this.route.host ?? this.route.smarthost ?? '';
  }

  /** What waits here, or is out. */
  get items(): ReadonlyMap<EntryId, Item> {
    return this.#backlog.items;
  }

  /** How often the host became unreachable. */
  get outages(): number {
    return this.#reachability.outages;
  }

  /** The link was lost since the job was last attempted: what came of it is not its fault. */
  linkLost(job: Job): boolean {
    return (
      this.#reachability.target?.link !== undefined &&
      (!this.#reachability.up || this.#reachability.outages !== job.outages)
    );
  }

  /** Queue life of an item, ms. */
  elapsed(item: Item): number {
    return this.#reachability.uptime - item.queuedAtUptime;
  }

  /** When an item is tried next, monotonic ms; undefined while that depends on the link. */
  nextTry(item: Item): number | undefined {
    return this.#reachability.up || this.#reachability.target?.link === undefined
      ? Math.max(item.due, this.#notBefore, this.#c.env.monotonicNow())
      : undefined;
  }

  /** What the attempt that has an entry waits for. */
  wait(id: EntryId): Wait | undefined {
    for (const delivery of this.#deliveries) {
      const wait = delivery.wait(id);
      if (wait !== undefined) return wait;
    }
    return undefined;
  }

  /** Puts an entry in, due now. Nothing happens when it is here. */
  add(id: EntryId, elapsed: number): void {
    if (this.items.has(id) || this.#closed) return;
    const item: Item = {
      id,
      due: 0,
      busy: false,
      deferrals: 0,
      queuedAtUptime: Math.round(this.#reachability.uptime - elapsed),
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

  /**
   * Puts an item back: due after `waitMs`, or at the end of what is ready. It is looked at when the delivery that had
   * it ends.
   */
  putBack(item: Item, waitMs: number): void {
    if (!this.has(item)) return;
    if (waitMs <= 0) this.#backlog.ready(item);
    else this.#backlog.defer(item, this.#c.env.monotonicNow() + waitMs);
  }

  /** Puts an item back, and starts what can start. */
  retry(item: Item, waitMs: number): void {
    this.putBack(item, waitMs);
    this.pump();
  }

  /** Takes back what couriers have not begun with, where any of it is to go elsewhere, or nowhere. */
  withdraw(elsewhere: (job: Job) => boolean): void {
    for (const delivery of this.#deliveries)
      if (delivery.jobs.some((job) => !job.finished && elsewhere(job))) delivery.withdraw();
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
    this.#reachability.wake();
  }

  #opened(): void {
    this.reason = '';
    if (this.#reachability.target?.link?.state.type !== 'up') return;
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

  /** Milliseconds until a delivery may start; undefined: not by time. */
  #waitMs(now: number): number | undefined {
    if (this.#backlog.peek() === undefined) return undefined;
    this.#reachability.look();
    if (now < this.#notBefore) return this.#notBefore - now;
    const state = this.#reachability.target?.link?.state;
    if (state?.type !== 'down') return this.#nextDeliveryMs(now);
    this.reason = state.error.message;
    if (state.retryAt !== undefined || state.error.permanent) return undefined;
    const waited = now - this.#reachability.since;
    return waited >= LINK_ASK_MS ? this.#nextDeliveryMs(now) : LINK_ASK_MS - waited;
  }

  /**
   * One delivery takes all there is; another starts beside it only when it has been busy with one entry for a while.
   */
  #nextDeliveryMs(now: number): number | undefined {
    const { concurrency, stallMs } = this.#c.schedule;
    if (this.#deliveries.size === 0) return 0;
    if (this.#deliveries.size >= concurrency) return undefined;
    const quiet = Math.min(...Array.from(this.#deliveries, (delivery) => now - delivery.pulledAt));
    return Math.max(0, stallMs - quiet);
  }

  /** False when there is no courier. */
  #start(): boolean {
    const { target } = this.#reachability;
    if (target === undefined) {
      this.reason = `nothing delivers to ${this.host}`;
      return false;
    }
    const delivery = new Delivery({
      destination: this,
      target,
      backlog: this.#backlog,
      desk: this.#desk,
      isolated: this.#isolated,
      onReply: () => {
        if (target.link === undefined) this.#reachability.set(true);
      },
      signal: this.#c.signal,
      env: this.#c.env,
    });
    this.#deliveries.add(delivery);
    void this.#deliver(delivery, target)
      .catch((error) => this.#c.onEvent({ type: 'error', error }))
      .then(() => {
        this.#deliveries.delete(delivery);
        if (this.#deliveries.size === 0) for (const resolve of this.#idle.splice(0)) resolve();
        this.pump();
      });
    return true;
  }

  async #deliver(delivery: Delivery, target: HostCourier): Promise<void> {
    let failure: { error: unknown } | undefined;
    await delivery.run().catch((error: unknown) => {
      failure = { error };
    });
    const undone = delivery.jobs.filter((job) => !job.finished);
    if (failure !== undefined) return await this.#failed(delivery, undone, failure.error);
    if (undone.length > 0 && undone.length === delivery.pulled)
      return await this.#failed(delivery, undone, new Error('the courier gave everything back'));
    if (delivery.pulled > 0) this.#failures = 0;
    this.reason = '';
    if (target.link === undefined) this.#reachability.set(true);
    for (const job of undone) await this.#desk.unsent(job, { reason: '', waitMs: 0 });
  }

  async #failed(delivery: Delivery, undone: readonly Job[], error: unknown): Promise<void> {
    const reason = error instanceof Error ? error.message : String(error);
    const broken = error instanceof SpoolError && ['corrupt', 'gone'].includes(error.code);
    if (this.#closed || this.#c.signal.aborted || broken || delivery.withdrawn) {
      for (const job of undone) await this.#desk.unsent(job, { reason: '', waitMs: 0 });
      return;
    }
    if (isLinkDown(error)) await this.#linkFailed(undone, reason);
    else await this.#sessionFailed(delivery, undone, reason);
  }

  async #linkFailed(undone: readonly Job[], reason: string): Promise<void> {
    const waitMs = backoff(this.#c.schedule, ++this.#failures);
    // While its state is down, the link itself tells when to go on; else it may be back already.
    const byLink = this.#reachability.target?.link !== undefined;
    if (!byLink) this.#reachability.set(false);
    const soon = 1000 * 2 ** Math.min(this.#failures - 1, 6);
    this.#notBefore = this.#c.env.monotonicNow() + (byLink ? Math.min(waitMs, soon) : waitMs);
    this.reason = reason;
    for (const job of undone) await this.#desk.unsent(job, { reason, waitMs: undefined });
    this.#tellFailed(reason);
  }

  /**
   * Replies come in order: the first entry without one is the likeliest to have ended the session, and it alone is
   * deferred. The host is to blame too when it answered nothing at all; when the same entry ends one session after the
   * other, the host's own back-off stays where it is.
   */
  async #sessionFailed(delivery: Delivery, undone: readonly Job[], reason: string): Promise<void> {
    const { schedule, env } = this.#c;
    const { answered, unanswered } = delivery;
    for (const { item } of unanswered) this.#isolated.add(item);
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
      await this.#desk.unsent(job, { reason, waitMs });
    }
    if (hostMs > 0) this.#tellFailed(reason, hostMs);
  }

  #tellFailed(reason: string, waitMs?: number): void {
    this.#c.onEvent({ type: 'host-deferred', host: this.host, reason, ...defined({ waitMs }) });
    this.#desk.sweepOld(this);
  }

  /** Resolves when no courier runs. */
  settled(): Promise<void> {
    return this.#deliveries.size === 0 ? Promise.resolve() : new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Starts nothing more. */
  close(): void {
    this.#closed = true;
    for (const delivery of this.#deliveries) delivery.end();
    this.#timer?.[Symbol.dispose]();
    this.#reachability.close();
  }
}
