import type { EntryId, EntryState, ForwardPath, Outcome, RecipientState } from '@postern/core';
import { EXPIRED, type Notices } from '../dsn/notify.ts';
import { outcomeEvent } from '../outcome-event.ts';
import { BATCH, isGone, nextTry, openRecipients, otherWork, type QueueContext, SPOOL_RETRY_MS } from './context.ts';
import type { Item, Lane } from './destination.ts';
import type { Serial } from './per-entry.ts';
import type { Placement } from './router.ts';
import { backoff } from './schedule.ts';

/** What a pass was about. */
interface Passed {
  readonly recipients: ReadonlySet<ForwardPath>;
  /** Those of them that were sent to only with proof that nothing was accepted before. */
  readonly asked?: ReadonlySet<ForwardPath>;
  /** The link was lost before the far side had answered for all. */
  readonly linkLost?: boolean;
}

/** What follows from the outcomes of an entry: DSNs, the next try, a hold, or the end. */
export class Aftermath {
  readonly #c: QueueContext;
  readonly #serial: Serial;
  readonly #placement: Placement;
  readonly #notices: Notices;
  readonly #sweeping = new Set<Lane>();

  constructor(c: QueueContext, o: { serial: Serial; placement: Placement; notices: Notices }) {
    this.#c = c;
    this.#serial = o.serial;
    this.#placement = o.placement;
    this.#notices = o.notices;
  }

  /**
   * After a courier has reported on `recipients` in one lane, or their time is up: DSNs, the next try, a hold, or the end. Never rejects: what the spool
   * refuses is done later.
   */
  pass(lane: Lane, item: Item, o: Passed): Promise<void> {
    const work = async (): Promise<void> => {
      const state = this.#c.spool.get(item.id);
      if (state === undefined) return lane.drop(item);
      const open = new Set(openRecipients(state));
      const waiting = state.recipients.filter(({ to }) => open.has(to) && o.recipients.has(to));
      if (waiting.length === 0) lane.drop(item);
      else if (lane.elapsed(item) >= this.#c.schedule.expireMs) await this.#expire(lane, item, { state, waiting });
      else if (waiting.some((recipient) => this.#mustHold(state, recipient, o.asked)))
        await this.#holdUncertain(lane, state);
      else {
        const outcomes = waiting.map(({ outcome }) => outcome);
        const outcome = outcomes.find((each) => each !== undefined && 'reply' in each) ?? outcomes.at(-1);
        await this.#defer(lane, item, { linkLost: o.linkLost === true, outcome });
      }
      await this.#finish(item.id);
    };
    return this.#serial.run(item.id, work).catch((error: unknown) => {
      if (!isGone(error)) this.#c.onEvent({ type: 'error', id: item.id, error });
      if (!lane.has(item)) return this.#serial.later(SPOOL_RETRY_MS, () => this.conclude(item.id));
      lane.back(item, SPOOL_RETRY_MS);
      lane.pump();
    });
  }

  /** Uncertain so often that it is not sent again unless its receipt proves that it was not accepted. */
  mustAsk(state: EntryState, to: ForwardPath): boolean {
    const recipient = state.recipients.find((each) => each.to === to);
    return recipient !== undefined && this.#isDoubtful(recipient) && hasReceipt(state, to);
  }

  /** Its receipt proved nothing, or it has none. */
  #mustHold(state: EntryState, recipient: RecipientState, asked: ReadonlySet<ForwardPath> | undefined): boolean {
    if (recipient.outcome?.type !== 'uncertain') return false;
    return asked?.has(recipient.to) === true || (this.#isDoubtful(recipient) && !hasReceipt(state, recipient.to));
  }

  #isDoubtful({ outcome, uncertain }: RecipientState): boolean {
    return outcome?.type === 'uncertain' && uncertain > 0 && uncertain % this.#c.schedule.holdAfterUncertain === 0;
  }

  async #defer(
    lane: Lane,
    item: Item,
    { outcome, linkLost }: { outcome: Outcome | undefined; linkLost: boolean },
  ): Promise<void> {
    if (linkLost && !(outcome !== undefined && 'reply' in outcome)) {
      // The link's fault: nothing is charged, and it goes on as soon as the link does.
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
    if (lane.elapsed(item) >= this.#c.schedule.delayNoticeMs) await this.#tellDelay(lane, item);
  }

  async #expire(
    lane: Lane,
    item: Item,
    { state, waiting }: { state: EntryState; waiting: EntryState['recipients'] },
  ): Promise<void> {
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
    lane.drop(item);
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
    await this.#notices.final(id);
    const state = this.#c.spool.get(id);
    if (state === undefined || openRecipients(state).length > 0 || state.held) return;
    await this.#c.spool.remove(id);
    this.forget(id);
  }

  /** The entry is gone. */
  forget(id: EntryId): void {
    this.#placement.takeOut(id);
    this.#c.onEvent({ type: 'completed', id });
  }

  async #tellDelay(lane: Lane, item: Item): Promise<void> {
    const retryUntil = this.#c.env.wallNow() + this.#c.schedule.expireMs - lane.elapsed(item);
    await this.#notices.delayed(item.id, { host: lane.host, retryUntil });
  }

  /** A host that refuses every session: what waits for it grows old without being pulled. One after the other: there may be many. */
  sweepOld(lane: Lane): void {
    if (this.#sweeping.has(lane)) return;
    this.#sweeping.add(lane);
    this.#serial.track(this.#sweep(lane).finally(() => this.#sweeping.delete(lane)));
  }

  async #sweep(lane: Lane): Promise<void> {
    const { expireMs, delayNoticeMs } = this.#c.schedule;
    let count = 0;
    for (const item of [...lane.items.values()]) {
      if (++count % BATCH === 0) await otherWork();
      const elapsed = lane.elapsed(item);
      if (this.#serial.closed) return;
      if (item.busy || elapsed < delayNoticeMs || !lane.has(item)) continue;
      const state = this.#c.spool.get(item.id);
      if (state === undefined) continue;
      if (elapsed >= expireMs)
        await this.pass(lane, item, { recipients: new Set(this.#placement.through(lane, state)) });
      else if (!state.delayNotified)
        await this.#serial
          .run(item.id, () => this.#tellDelay(lane, item))
          .catch((error) => this.#c.onEvent({ type: 'error', id: item.id, error }));
    }
  }
}

function hasReceipt(state: EntryState, to: ForwardPath): boolean {
  return state.unresolved.some(({ recipients }) => recipients.includes(to));
}
