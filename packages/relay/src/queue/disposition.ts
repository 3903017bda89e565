/** What follows from the outcomes of an entry, and nothing else decides it: DSNs, the next try, a hold, or the end. */
import {
  defined,
  type EntryId,
  type EntryState,
  type Env,
  type ForwardPath,
  type JournalRecord,
  type Outcome,
  type RecipientState,
} from '@postern/core';
import { EXPIRED, type Notices } from '../dsn/notify.ts';
import { isGone } from '../errors.ts';
import { outcomeEvent } from '../outcome-event.ts';
import { BATCH, openRecipients, otherWork, type QueueContext, SPOOL_RETRY_MS } from './context.ts';
import type { Destination, Item } from './job.ts';
import type { PerEntry } from './per-entry.ts';
import type { Router } from './router.ts';
import { backoff } from './schedule.ts';

/** Whose outcomes are judged. */
interface Judged {
  readonly recipients: ReadonlySet<ForwardPath>;
  /** Those of them that were sent to only with proof that nothing was accepted before. */
  readonly needsProof?: ReadonlySet<ForwardPath>;
  /** The link was lost before the far side had answered for all. */
  readonly linkLost?: boolean;
}

/** Draws the consequences of outcomes, one after the other for each entry. */
export class Disposition {
  readonly #c: QueueContext;
  readonly #perEntry: PerEntry;
  readonly #router: Router;
  readonly #notices: Notices;
  readonly #sweeping = new Set<Destination>();

  constructor(c: QueueContext, o: { perEntry: PerEntry; router: Router; notices: Notices }) {
    this.#c = c;
    this.#perEntry = o.perEntry;
    this.#router = o.router;
    this.#notices = o.notices;
  }

  /**
   * After a courier has reported on `recipients` at one destination, or their time is up: DSNs, the next try, a hold,
   * or the end. Never rejects: what the spool refuses is done later.
   */
  apply(destination: Destination, item: Item, o: Judged): Promise<void> {
    const work = async (): Promise<void> => {
      const state = this.#c.spool.get(item.id);
      if (state === undefined) return destination.drop(item);
      const open = new Set(openRecipients(state));
      const waiting = state.recipients.filter(({ to }) => open.has(to) && o.recipients.has(to));
      if (waiting.length === 0) destination.drop(item);
      else if (destination.elapsed(item) >= this.#c.schedule.expireMs)
        await this.#expire(destination, item, { state, waiting });
      else if (waiting.some((recipient) => this.#mustHold(state, recipient, o.needsProof)))
        await this.#holdUncertain(destination, state);
      else {
        const outcomes = waiting.map(({ outcome }) => outcome);
        const outcome = outcomes.find((each) => each !== undefined && 'reply' in each) ?? outcomes.at(-1);
        await this.#defer(destination, item, { linkLost: o.linkLost === true, outcome });
      }
      await this.#finishNow(item.id);
    };
    return this.#perEntry.run(item.id, work).catch((error: unknown) => {
      if (!isGone(error)) this.#c.onEvent({ type: 'error', id: item.id, error });
      if (!destination.has(item)) return this.#perEntry.later(SPOOL_RETRY_MS, () => this.finish(item.id));
      destination.retry(item, SPOOL_RETRY_MS);
    });
  }

  /** Uncertain so often that it is not sent again unless its receipt proves that it was not accepted. */
  needsProof(state: EntryState, to: ForwardPath): boolean {
    const recipient = state.recipients.find((each) => each.to === to);
    return recipient !== undefined && this.#isDoubtful(recipient) && hasReceipt(state, to);
  }

  /** Its receipt proved nothing, or it has none. */
  #mustHold(state: EntryState, recipient: RecipientState, needsProof: ReadonlySet<ForwardPath> | undefined): boolean {
    if (recipient.outcome?.type !== 'uncertain') return false;
    return needsProof?.has(recipient.to) === true || (this.#isDoubtful(recipient) && !hasReceipt(state, recipient.to));
  }

  #isDoubtful({ outcome, uncertain }: RecipientState): boolean {
    return outcome?.type === 'uncertain' && uncertain > 0 && uncertain % this.#c.schedule.holdAfterUncertain === 0;
  }

  async #defer(
    destination: Destination,
    item: Item,
    { outcome, linkLost }: { outcome: Outcome | undefined; linkLost: boolean },
  ): Promise<void> {
    if (linkLost && !(outcome !== undefined && 'reply' in outcome)) {
      // The link's fault: nothing is charged, and it goes on as soon as the link does.
      destination.retry(item, 0);
      return;
    }
    item.deferrals++;
    const waitMs = backoff(this.#c.schedule, item.deferrals);
    const reason =
      outcome?.type === 'deferred'
        ? outcome.reason
        : 'the connection was lost before the answer came; it is tried again';
    await this.#c.spool.record(item.id, nextTry(this.#c.env, { destination, item }, { waitMs, reason }));
    destination.retry(item, waitMs);
    if (destination.elapsed(item) >= this.#c.schedule.delayNoticeMs) await this.#tellDelay(destination, item);
  }

  async #expire(
    destination: Destination,
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
        ...defined({ reply: before?.reply }),
      };
      return { type: 'outcome', at, n: 0, to, outcome: expired } as const;
    });
    await this.#c.spool.record(state.id, ...records);
    const { id, arrived } = state;
    const about = { id, from: state.envelope.from, relay: destination.host, at, arrived };
    for (const { to, outcome } of records) this.#c.onEvent(outcomeEvent({ ...about, to, outcome, expired: true }));
    destination.drop(item);
  }

  async #holdUncertain(destination: Destination, state: EntryState): Promise<void> {
    const reason =
      `the connection to ${destination.host} was lost ${this.#c.schedule.holdAfterUncertain} times ` +
      'before its answer came; ' +
      'it may have arrived: release it to try again, or remove it';
    await this.hold(state.id, reason);
  }

  /** Holds an entry until somebody releases it. */
  async hold(id: EntryId, reason: string): Promise<void> {
    await this.#c.spool.record(id, { type: 'hold', at: this.#c.env.wallNow(), reason });
    this.#router.takeOut(id);
    this.#c.onEvent({ type: 'held', id, reason });
  }

  /** Ends an entry of which no recipient is open. */
  finish(id: EntryId): Promise<void> {
    return this.#perEntry
      .run(id, () => this.#finishNow(id))
      .catch((error: unknown) => {
        if (!isGone(error)) this.#c.onEvent({ type: 'error', id, error });
        this.#perEntry.later(SPOOL_RETRY_MS, () => this.finish(id));
      });
  }

  /** Tells the sender what is to be told; when every recipient is done, the entry goes. */
  async #finishNow(id: EntryId): Promise<void> {
    await this.#notices.final(id);
    const state = this.#c.spool.get(id);
    if (state === undefined || openRecipients(state).length > 0 || state.held) return;
    await this.#c.spool.remove(id);
    this.removed(id);
  }

  /** The entry is gone from the spool: no destination has it, and it is told. */
  removed(id: EntryId): void {
    this.#router.takeOut(id);
    this.#c.onEvent({ type: 'completed', id });
  }

  async #tellDelay(destination: Destination, item: Item): Promise<void> {
    const retryUntil = this.#c.env.wallNow() + this.#c.schedule.expireMs - destination.elapsed(item);
    await this.#notices.delayed(item.id, { host: destination.host, retryUntil });
  }

  /**
   * A host that refuses every session: what waits for it grows old without being pulled. One after the other: there may
   * be many.
   */
  sweepOld(destination: Destination): void {
    if (this.#sweeping.has(destination)) return;
    this.#sweeping.add(destination);
    this.#perEntry.track(this.#sweep(destination).finally(() => this.#sweeping.delete(destination)));
  }

  async #sweep(destination: Destination): Promise<void> {
    const { expireMs, delayNoticeMs } = this.#c.schedule;
    let count = 0;
    for (const item of [...destination.items.values()]) {
      if (++count % BATCH === 0) await otherWork();
      const elapsed = destination.elapsed(item);
      if (this.#perEntry.closed) return;
      if (item.busy || elapsed < delayNoticeMs || !destination.has(item)) continue;
      const state = this.#c.spool.get(item.id);
      if (state === undefined) continue;
      if (elapsed >= expireMs)
        await this.apply(destination, item, { recipients: new Set(this.#router.through(destination, state)) });
      else if (!state.delayNotified)
        await this.#perEntry
          .run(item.id, () => this.#tellDelay(destination, item))
          .catch((error) => this.#c.onEvent({ type: 'error', id: item.id, error }));
    }
  }
}

function hasReceipt(state: EntryState, to: ForwardPath): boolean {
  return state.unresolved.some(({ recipients }) => recipients.includes(to));
}

/** The record of an item that is due again in `waitMs`. */
export function nextTry(
  env: Env,
  { destination, item }: { destination: Destination; item: Item },
  o: { waitMs: number; reason: string },
): JournalRecord {
  const at = env.wallNow();
  return { type: 'next', at, due: at + o.waitMs, reason: o.reason, elapsed: Math.round(destination.elapsed(item)) };
}
