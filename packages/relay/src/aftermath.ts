import type { EntryId, EntryState, ForwardPath, Outcome } from '@postern/core';
import { isGone, nextTry, openRecipients, type QueueContext, SPOOL_RETRY_MS } from './context.ts';
import type { Item, Lane } from './lane.ts';
import { EXPIRED, type Notices } from './notices.ts';
import { outcomeEvent } from './outcome-event.ts';
import type { Placement } from './placement.ts';
import { backoff } from './schedule.ts';
import type { Serial } from './serial.ts';

/** What follows from the outcomes of an entry: DSNs, the next try, a hold, or the end. */
export class Aftermath {
  readonly #c: QueueContext;
  readonly #serial: Serial;
  readonly #placement: Placement;
  readonly #notices: Notices;

  constructor(c: QueueContext, o: { serial: Serial; placement: Placement; notices: Notices }) {
    this.#c = c;
    this.#serial = o.serial;
    this.#placement = o.placement;
    this.#notices = o.notices;
  }

  /** After a courier has reported on `tried` in one lane: DSNs, the next try, a hold, or the end. */
  pass(lane: Lane, item: Item, tried: ReadonlySet<ForwardPath>, last?: Outcome): Promise<void> {
    return this.#serial
      .run(item.id, async () => {
        const state = this.#c.spool.get(item.id);
        if (state === undefined) return lane.drop(item);
        const open = new Set(openRecipients(state));
        const waiting = state.recipients.filter(({ to }) => open.has(to) && tried.has(to));
        const elapsed = lane.elapsed(item);
        if (waiting.length > 0 && elapsed >= this.#c.schedule.expireMs) await this.#expire(lane, state, waiting);
        else if (waiting.some(({ uncertain, outcome }) => this.#mustHold(uncertain, outcome)))
          await this.#holdUncertain(lane, state);
        else if (waiting.length > 0) await this.#defer(lane, item, last ?? waiting.at(-1)?.outcome);
        if (waiting.length === 0) lane.drop(item);
        await this.#finish(item.id);
      })
      .catch((error: unknown) => {
        lane.back(item, SPOOL_RETRY_MS);
        lane.pump();
        if (!isGone(error)) this.#c.onEvent({ type: 'error', id: item.id, error });
      });
  }

  #mustHold(uncertain: number, outcome: Outcome | undefined): boolean {
    return outcome?.type === 'uncertain' && uncertain > 0 && uncertain % this.#c.schedule.holdAfterUncertain === 0;
  }

  async #defer(lane: Lane, item: Item, outcome: Outcome | undefined): Promise<void> {
    if (!lane.up && !(outcome !== undefined && 'reply' in outcome)) {
      // The link's fault: nothing is charged, and link-up makes it due.
      lane.back(item, 0);
      lane.pump();
      return;
    }
    item.deferrals++;
    const waitMs = backoff(this.#c.schedule, item.deferrals);
    const reason =
      outcome?.type === 'deferred'
        ? outcome.reason
        : 'the connection was lost before the answer came; it is tried again';
    await this.#c.spool.record(item.id, nextTry(this.#c.env, { lane, item }, { waitMs, reason }));
    lane.back(item, waitMs);
    lane.pump();
    const state = this.#c.spool.get(item.id);
    const remaining = this.#c.schedule.expireMs - lane.elapsed(item);
    if (state === undefined || state.delayNotified || lane.elapsed(item) < this.#c.schedule.delayNoticeMs) return;
    await this.#notices.delayed(state, { host: lane.host, retryUntil: this.#c.env.wallNow() + remaining });
  }

  async #expire(lane: Lane, state: EntryState, waiting: EntryState['recipients']): Promise<void> {
    const at = this.#c.env.wallNow();
    const records = waiting.map(({ to, outcome }) => {
      const before = outcome?.type === 'deferred' ? outcome : undefined;
      const reason = `${EXPIRED}${before === undefined ? '' : `: ${before.reason}`}`;
      const expired: Outcome = {
        type: 'failed',
        reason,
        ...(before?.reply === undefined ? {} : { reply: before.reply }),
      };
      return { type: 'outcome', at, n: 0, to, outcome: expired } as const;
    });
    await this.#c.spool.record(state.id, ...records);
    const { id, arrived } = state;
    const about = { id, from: state.envelope.from, relay: lane.host, at, arrived };
    for (const { to, outcome } of records) this.#c.onEvent(outcomeEvent({ ...about, to, outcome, expired: true }));
    const item = lane.items.get(state.id);
    if (item !== undefined) lane.drop(item);
  }

  async #holdUncertain(lane: Lane, state: EntryState): Promise<void> {
    const reason =
      `the connection to ${lane.host} was lost ${this.#c.schedule.holdAfterUncertain} times before its answer came; ` +
      'it may have arrived: release it to try again, or remove it';
    await this.hold(state.id, reason);
  }

  /** Holds an entry until somebody releases it. */
  async hold(id: EntryId, reason: string): Promise<void> {
    await this.#c.spool.record(id, { type: 'hold', at: this.#c.env.wallNow(), reason });
    this.#placement.takeOut(id);
    this.#c.onEvent({ type: 'held', id, reason });
  }

  /** Ends an entry of which no recipient is open. */
  conclude(id: EntryId): Promise<void> {
    return this.#serial
      .run(id, () => this.#finish(id))
      .catch((error: unknown) => {
        if (!isGone(error)) this.#c.onEvent({ type: 'error', id, error });
        this.#serial.later(SPOOL_RETRY_MS, () => this.conclude(id));
      });
  }

  /** Tells the sender what is to be told; when every recipient is done, the entry goes. */
  async #finish(id: EntryId): Promise<void> {
    const state = this.#c.spool.get(id);
    if (state === undefined) return;
    await this.#notices.final(state);
    if (openRecipients(state).length > 0 || state.held) return;
    await this.#c.spool.remove(id);
    this.forget(id);
  }

  /** The entry is gone. */
  forget(id: EntryId): void {
    this.#placement.takeOut(id);
    this.#c.onEvent({ type: 'completed', id });
  }

  /** A host that refuses every session: what waits for it grows old without being pulled. */
  sweepOld(lane: Lane): void {
    for (const item of [...lane.items.values()]) {
      if (item.busy || lane.elapsed(item) < this.#c.schedule.delayNoticeMs) continue;
      const state = this.#c.spool.get(item.id);
      if (state === undefined) continue;
      if (lane.elapsed(item) >= this.#c.schedule.expireMs) void this.pass(lane, item, new Set(openRecipients(state)));
      else if (!state.delayNotified) {
        const retryUntil = this.#c.env.wallNow() + this.#c.schedule.expireMs - lane.elapsed(item);
        void this.#serial
          .run(item.id, () => this.#notices.delayed(state, { host: lane.host, retryUntil }))
          .catch((error) => this.#c.onEvent({ type: 'error', id: item.id, error }));
      }
    }
  }
}
