import {
  type CourierReport,
  type Deferred,
  deferred,
  type Entry,
  type EntryId,
  type ForwardPath,
  type Outcome,
  SpoolError,
} from '@postern/core';
import type { Backlog } from './backlog.ts';
import type { Item, Job } from './lane.ts';
import type { HostCourier } from './way.ts';

/** What a run needs of its lane. */
export interface RunOptions {
  readonly target: HostCourier;
  readonly backlog: Backlog<Item>;
  readonly signal: AbortSignal;
  readonly now: () => number;
  /** The job for an item, or undefined when there is nothing to try now. */
  prepare(item: Item): Job | undefined;
  attempting(job: Job, receipt: string | undefined): Promise<void>;
  outcome(job: Job, to: ForwardPath, outcome: Outcome): Promise<void>;
}

/** One call of a courier: what it pulled, and what it said of that. */
export class Run {
  /** When it last pulled an entry, monotonic ms. */
  pulledAt: number;
  readonly #o: RunOptions;
  readonly #jobs = new Map<EntryId, Job>();
  /** The last entry pulled goes alone. */
  #alone = false;
  /** Entries without all their outcomes. */
  #out = 0;
  /** Resolves when one of them has them, or the run is over. */
  #turn: Deferred<void> = deferred();
  #over = false;

  constructor(o: RunOptions) {
    this.#o = o;
    this.pulledAt = o.now();
  }

  /** Calls the courier; settles as it does. */
  async deliver(): Promise<void> {
    try {
      await this.#o.target.courier(this.#batch(), this.#report());
    } finally {
      this.end();
    }
  }

  /** What was pulled, in order. */
  get jobs(): readonly Job[] {
    return [...this.#jobs.values()];
  }

  /** What was pulled and got no reply. */
  get unanswered(): readonly Job[] {
    return this.jobs.filter(({ outcomes }) => ![...outcomes.values()].some((outcome) => 'reply' in outcome));
  }

  /** Nothing more is pulled. */
  end(): void {
    this.#over = true;
    this.#turn.resolve();
  }

  async *#batch(): AsyncGenerator<Entry> {
    const { backlog, prepare, now } = this.#o;
    for (let item = backlog.peek(); item !== undefined && !this.#over; item = backlog.peek()) {
      if (this.#out > 0 && (this.#alone || item.alone)) {
        await this.#turn.promise;
        continue;
      }
      backlog.take();
      const job = prepare(item);
      if (job === undefined) continue;
      this.#jobs.set(item.id, job);
      this.#out++;
      this.#alone = item.alone;
      this.pulledAt = now();
      yield job.entry;
    }
  }

  #report(): CourierReport {
    const job = (id: EntryId): Job => {
      const found = this.#jobs.get(id);
      if (found === undefined) throw new SpoolError(`the courier was not given ${id}`, { code: 'gone' });
      return found;
    };
    return {
      signal: this.#o.signal,
      attempting: async (id, { receipt }) => {
        const found = job(id);
        await this.#o.attempting(found, receipt);
        found.attempted = true;
      },
      outcome: async (id, to, outcome) => {
        const found = job(id);
        if ('reply' in outcome) found.item.alone = false;
        await this.#o.outcome(found, to, outcome);
        if (found.finished) this.#next();
      },
    };
  }

  /** One more entry has all its outcomes. */
  #next(): void {
    this.#out--;
    this.#turn.resolve();
    this.#turn = deferred();
  }
}
