import type { Entry, EntryId, EntryState, Envelope, ForwardPath, JournalRecord, Outcome } from '@postern/core';
import { outcomeEvent } from '../outcome-event.ts';
import { isGone, nextTry, openRecipients, type QueueContext, SPOOL_RETRY_MS } from './context.ts';
import type { Job } from './delivery.ts';
import type { Item, Lane } from './destination.ts';
import type { Aftermath } from './disposition.ts';
import type { Serial } from './per-entry.ts';
import type { Placement } from './router.ts';

/** What a courier is given, and what it says of it, made durable. */
export class Attempts {
  readonly #c: QueueContext;
  readonly #serial: Serial;
  readonly #placement: Placement;
  readonly #aftermath: Aftermath;
  /** Entries that couriers have, one job for each lane. */
  readonly #active = new Map<EntryId, Set<Job>>();

  constructor(c: QueueContext, o: { serial: Serial; placement: Placement; aftermath: Aftermath }) {
    this.#c = c;
    this.#serial = o.serial;
    this.#placement = o.placement;
    this.#aftermath = o.aftermath;
  }

  /** Routes are asked again at every attempt: what belongs elsewhere now goes there. */
  prepare(lane: Lane, item: Item): Job | undefined {
    const state = this.#c.spool.get(item.id);
    if (state === undefined || state.held) {
      lane.drop(item);
      return undefined;
    }
    const { from } = state.envelope;
    const active = [...(this.#active.get(item.id) ?? [])];
    // What another courier has still is placed again when that one is done.
    const mine = this.#placement
      .through(lane, state)
      .filter((to) => !active.some(({ recipients }) => recipients.has(to)));
    if (mine.length < openRecipients(state).length) this.#placement.place(state);
    if (mine.length === 0) {
      lane.drop(item);
      return undefined;
    }
    // Where it is new it is tried once at least: its queue life may be from another host, or from before a restart.
    if (item.deferrals > 0 && lane.elapsed(item) >= this.#c.schedule.expireMs) {
      void this.#aftermath.pass(lane, item, { recipients: new Set(mine) });
      return undefined;
    }
    const asked = new Set(mine.filter((to) => this.#aftermath.mustAsk(state, to)));
    const job: Job = {
      ...{
        item,
        entry: this.#entry(state, mine, asked),
        asked,
        from,
        arrived: state.arrived,
        downs: lane.downs,
        linkLost: false,
      },
      ...{ recipients: new Set(mine), outcomes: new Map(), records: [], attempted: false, finished: false },
      n: Math.max(state.attempts, ...active.map(({ n }) => n)) + 1,
    };
    this.#active.set(item.id, new Set([...active, job]));
    return job;
  }

  /** What was uncertain came to nothing, and is no attempt. */
  async disproved(job: Job, to: ForwardPath): Promise<void> {
    const { id } = job.item;
    const outcome: Outcome = { type: 'deferred', reason: 'the link was lost before the message was there' };
    await this.#c.spool.record(id, { type: 'outcome', at: this.#c.env.wallNow(), n: 0, to, outcome });
    job.n = (this.#c.spool.get(id)?.attempts ?? 0) + 1;
  }

  /** The courier is done with it, and so are we. An entry that was taken out meanwhile may belong somewhere again. */
  #end(job: Job): void {
    const { id } = job.item;
    const active = this.#active.get(id);
    active?.delete(job);
    if (active?.size === 0) this.#active.delete(id);
    const state = this.#c.spool.get(id);
    if (state !== undefined && !state.held) this.#placement.place(state);
  }

  /** The entry as a courier gets it. */
  #entry(state: EntryState, mine: readonly ForwardPath[], ask: ReadonlySet<ForwardPath>): Entry {
    const { id, size } = state;
    const to = new Set(mine);
    const unresolved = state.unresolved
      .map(({ receipt, recipients }) => ({ receipt, recipients: recipients.filter((each) => to.has(each)) }))
      .filter(({ recipients }) => recipients.length > 0);
    return { id, size, envelope: envelopeFor(state.envelope, to), unresolved, ask, open: () => this.#c.spool.read(id) };
  }

  attempting(lane: Lane, job: Job, receipt: string | undefined): Promise<void> {
    return this.#c.spool.record(job.item.id, {
      type: 'attempt',
      at: this.#c.env.wallNow(),
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
  async outcome(lane: Lane, job: Job, to: ForwardPath, outcome: Outcome): Promise<void> {
    const { item } = job;
    job.linkLost ||= lane.linkLost(job);
    job.outcomes.set(to, outcome);
    job.finished = job.outcomes.size === job.entry.envelope.recipients.length;
    const state = job.finished ? this.#c.spool.get(item.id) : undefined;
    if (state !== undefined && isAllDelivered(state, job)) {
      await this.#settle(lane, job, () =>
        this.#serial.run(item.id, async () => {
          await Promise.all(job.records);
          await this.#c.spool.remove(item.id);
          this.#tell(lane, job, to);
          this.#aftermath.forget(item.id);
        }),
      );
      return;
    }
    const recorded = this.#c.spool
      .record(item.id, this.#outcomeRecord(job, to, outcome))
      .then(() => this.#tell(lane, job, to));
    job.records.push(recorded);
    recorded.catch(() => {});
    if (!job.finished) return;
    await this.#settle(lane, job, async () => {
      await Promise.all(job.records);
      await this.#aftermath.pass(lane, item, job);
    });
  }

  /** What the spool does not take now is recorded later, not delivered again: the courier's word is known. */
  async #settle(lane: Lane, job: Job, work: () => Promise<void>): Promise<void> {
    try {
      await work();
      this.#end(job);
    } catch (error) {
      if (isGone(error)) {
        lane.drop(job.item);
        this.#end(job);
        return;
      }
      this.#c.onEvent({ type: 'error', id: job.item.id, error });
      this.#serial.later(SPOOL_RETRY_MS, async () => {
        await this.#settle(lane, job, async () => {
          const records = Array.from(job.outcomes, ([to, outcome]) => this.#outcomeRecord(job, to, outcome));
          await this.#c.spool.record(job.item.id, ...records);
          for (const to of job.outcomes.keys()) this.#tell(lane, job, to);
          await this.#aftermath.pass(lane, job.item, job);
        });
      });
    }
  }

  /** What the far side did not answer because the link was lost is no attempt: its number is used again. */
  #outcomeRecord({ n, linkLost }: Job, to: ForwardPath, outcome: Outcome): JournalRecord {
    const spared = linkLost && outcome.type === 'deferred' && outcome.reply === undefined;
    return { type: 'outcome', at: this.#c.env.wallNow(), n: spared ? 0 : n, to, outcome };
  }

  #tell(lane: Lane, job: Job, to: ForwardPath): void {
    const outcome = job.outcomes.get(to);
    if (outcome === undefined) return;
    const { from, arrived } = job;
    const at = this.#c.env.wallNow();
    this.#c.onEvent(outcomeEvent({ id: job.item.id, from, to, relay: lane.host, at, arrived, outcome }));
  }

  /** What a courier pulled and gave back. An attempt that was begun and has no word is uncertain. */
  async unsent(
    lane: Lane,
    job: Job,
    { reason, waitMs }: { reason: string; waitMs: number | undefined },
  ): Promise<void> {
    const missing = job.entry.envelope.recipients.filter(({ to }) => !job.outcomes.has(to));
    try {
      if (job.attempted) {
        for (const { to } of missing) await this.outcome(lane, job, to, { type: 'uncertain' });
        return;
      }
      if (waitMs !== undefined && waitMs > 0) {
        await this.#c.spool.record(job.item.id, nextTry(this.#c.env, { lane, item: job.item }, { waitMs, reason }));
      }
    } catch (error) {
      if (!isGone(error)) this.#c.onEvent({ type: 'error', id: job.item.id, error });
    }
    lane.back(job.item, waitMs ?? 0);
    this.#end(job);
  }
}

/** Every recipient of the entry is delivered now, and nobody wants to hear of it. */
function isAllDelivered(state: EntryState, job: Job): boolean {
  return state.recipients.every(({ to, outcome, notified }) => {
    const latest = job.outcomes.get(to) ?? outcome;
    return latest?.type === 'delivered' && (!latest.relayed || notified);
  });
}

/** The envelope of some of an entry's recipients. */
function envelopeFor(envelope: Envelope, to: ReadonlySet<ForwardPath>): Envelope {
  return { ...envelope, recipients: envelope.recipients.filter((recipient) => to.has(recipient.to)) };
}
