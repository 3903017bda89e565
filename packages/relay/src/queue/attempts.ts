/**
 * The desk for what couriers say: an entry is given out once for each recipient, and each word about it is durable
 * before anything follows from it.
 */
import {
  defined,
  type Entry,
  type EntryId,
  type EntryState,
  type Envelope,
  type ForwardPath,
  type JournalRecord,
  type Outcome,
} from '@postern/core';
import { isGone } from '../errors.ts';
import { outcomeEvent } from '../outcome-event.ts';
import { openRecipients, type QueueContext, SPOOL_RETRY_MS } from './context.ts';
import { type Disposition, nextTry } from './disposition.ts';
import type { AttemptDesk, Destination, Item, Job } from './job.ts';
import type { PerEntry } from './per-entry.ts';
import type { Router } from './router.ts';

/** What a courier is given, and what it says of it, made durable. */
export class Attempts implements AttemptDesk {
  readonly #c: QueueContext;
  readonly #perEntry: PerEntry;
  readonly #router: Router;
  readonly #disposition: Disposition;
  /** Entries that couriers have, one job for each destination. */
  readonly #active = new Map<EntryId, Set<Job>>();

  constructor(c: QueueContext, o: { perEntry: PerEntry; router: Router; disposition: Disposition }) {
    this.#c = c;
    this.#perEntry = o.perEntry;
    this.#router = o.router;
    this.#disposition = o.disposition;
  }

  /** Routes are asked again at every attempt: what belongs elsewhere now goes there. */
  prepare(destination: Destination, item: Item): Job | undefined {
    const state = this.#c.spool.get(item.id);
    if (state === undefined || state.held) {
      destination.drop(item);
      return undefined;
    }
    const { from } = state.envelope;
    const active = [...(this.#active.get(item.id) ?? [])];
    // What another courier has still is placed again when that one is done.
    const mine = this.#router
      .through(destination, state)
      .filter((to) => !active.some(({ recipients }) => recipients.has(to)));
    if (mine.length < openRecipients(state).length) this.#router.place(state);
    if (mine.length === 0) {
      destination.drop(item);
      return undefined;
    }
    // Where it is new it is tried once at least: its queue life may be from another host, or from before a restart.
    if (item.deferrals > 0 && destination.elapsed(item) >= this.#c.schedule.expireMs) {
      void this.#disposition.apply(destination, item, { recipients: new Set(mine) });
      return undefined;
    }
    const needsProof = new Set(mine.filter((to) => this.#disposition.needsProof(state, to)));
    const job: Job = {
      item,
      destination,
      entry: this.#entry(state, mine, needsProof),
      recipients: new Set(mine),
      needsProof,
      from,
      arrived: state.arrived,
      outages: destination.outages,
      linkLost: false,
      outcomes: new Map(),
      records: [],
      attempted: false,
      finished: false,
      n: Math.max(state.attempts, ...active.map(({ n }) => n)) + 1,
    };
    this.#active.set(item.id, new Set([...active, job]));
    return job;
  }

  /** What was uncertain came to nothing, and is no attempt. */
  async notAccepted(job: Job, to: ForwardPath): Promise<void> {
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
    if (state !== undefined && !state.held) this.#router.place(state);
  }

  /** The entry as a courier gets it. */
  #entry(state: EntryState, mine: readonly ForwardPath[], needsProof: ReadonlySet<ForwardPath>): Entry {
    const { id, size } = state;
    const to = new Set(mine);
    const unresolved = state.unresolved
      .map(({ receipt, recipients }) => ({ receipt, recipients: recipients.filter((each) => to.has(each)) }))
      .filter(({ recipients }) => recipients.length > 0);
    return {
      id,
      size,
      envelope: envelopeFor(state.envelope, to),
      unresolved,
      needsProof,
      open: () => this.#c.spool.read(id),
    };
  }

  attempting(job: Job, receipt: string | undefined): Promise<void> {
    return this.#c.spool.record(job.item.id, {
      type: 'attempt',
      at: this.#c.env.wallNow(),
      n: job.n,
      host: job.destination.host,
      to: job.entry.envelope.recipients.map(({ to }) => to),
      ...defined({ receipt }),
    });
  }

  /**
   * Outcomes of one pass are recorded as they come, and waited for at the last one: its caller goes on only then, and
   * many recipients share few syncs. For what is simply delivered the removal is the record.
   */
  async outcome(job: Job, to: ForwardPath, outcome: Outcome): Promise<void> {
    const { item, destination } = job;
    job.linkLost ||= destination.linkLost(job);
    job.outcomes.set(to, outcome);
    job.finished = job.outcomes.size === job.entry.envelope.recipients.length;
    const state = job.finished ? this.#c.spool.get(item.id) : undefined;
    if (state !== undefined && isAllDelivered(state, job)) {
      await this.#settle(job, () =>
        this.#perEntry.run(item.id, async () => {
          await Promise.all(job.records);
          await this.#c.spool.remove(item.id);
          this.#tell(job, to);
          this.#disposition.removed(item.id);
        }),
      );
      return;
    }
    const recorded = this.#c.spool
      .record(item.id, this.#outcomeRecord(job, to, outcome))
      .then(() => this.#tell(job, to));
    job.records.push(recorded);
    recorded.catch(() => {});
    if (!job.finished) return;
    await this.#settle(job, async () => {
      await Promise.all(job.records);
      await this.#disposition.apply(destination, item, job);
    });
  }

  /** What the spool does not take now is recorded later, not delivered again: the courier's word is known. */
  async #settle(job: Job, work: () => Promise<void>): Promise<void> {
    try {
      await work();
      this.#end(job);
    } catch (error) {
      if (isGone(error)) {
        job.destination.drop(job.item);
        this.#end(job);
        return;
      }
      this.#c.onEvent({ type: 'error', id: job.item.id, error });
      this.#perEntry.later(SPOOL_RETRY_MS, async () => {
        await this.#settle(job, async () => {
          const records = Array.from(job.outcomes, ([to, outcome]) => this.#outcomeRecord(job, to, outcome));
          await this.#c.spool.record(job.item.id, ...records);
          for (const to of job.outcomes.keys()) this.#tell(job, to);
          await this.#disposition.apply(job.destination, job.item, job);
        });
      });
    }
  }

  /** What the far side did not answer because the link was lost is no attempt: its number is used again. */
  #outcomeRecord({ n, linkLost }: Job, to: ForwardPath, outcome: Outcome): JournalRecord {
    const spared = linkLost && outcome.type === 'deferred' && outcome.reply === undefined;
    return { type: 'outcome', at: this.#c.env.wallNow(), n: spared ? 0 : n, to, outcome };
  }

  #tell(job: Job, to: ForwardPath): void {
    const outcome = job.outcomes.get(to);
    if (outcome === undefined) return;
    const { from, arrived, destination } = job;
    const at = this.#c.env.wallNow();
    this.#c.onEvent(outcomeEvent({ id: job.item.id, from, to, relay: destination.host, at, arrived, outcome }));
  }

  /** What a courier pulled and gave back. An attempt that was begun and has no word is uncertain. */
  async unsent(job: Job, { reason, waitMs }: { reason: string; waitMs: number | undefined }): Promise<void> {
    const { destination } = job;
    const missing = job.entry.envelope.recipients.filter(({ to }) => !job.outcomes.has(to));
    try {
      if (job.attempted) {
        for (const { to } of missing) await this.outcome(job, to, { type: 'uncertain' });
        return;
      }
      if (waitMs !== undefined && waitMs > 0) {
        await this.#c.spool.record(
          job.item.id,
          nextTry(this.#c.env, { destination, item: job.item }, { waitMs, reason }),
        );
      }
    } catch (error) {
      if (!isGone(error)) this.#c.onEvent({ type: 'error', id: job.item.id, error });
    }
    destination.putBack(job.item, waitMs ?? 0);
    this.#end(job);
  }

  sweepOld(destination: Destination): void {
    this.#disposition.sweepOld(destination);
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
