/**
 * One call of a courier: it pulls what is ready at a destination, and each word it says of that goes straight to the
 * desk.
 */
import {
  type CourierReport,
  type Deferred,
  deferred,
  type Entry,
  type EntryId,
  type Env,
  SpoolError,
  type Wait,
} from '@postern/core';
import type { Backlog } from './backlog.ts';
import type { HostCourier } from './context.ts';
import type { AttemptDesk, Destination, Item, Job } from './job.ts';

/** Options of a {@link Delivery}. */
export interface DeliveryOptions {
  readonly destination: Destination;
  readonly target: HostCourier;
  readonly backlog: Backlog<Item>;
  readonly desk: AttemptDesk;
  /** What goes one at a time, until it has a reply. */
  readonly isolated: WeakSet<Item>;
  /** Called for every reply of the far side, before the desk hears of it. */
  readonly onReply: () => void;
  readonly signal: AbortSignal;
  readonly env: Pick<Env, 'monotonicNow'>;
}

/** What one call of a courier pulled, and what it said of that. */
export class Delivery {
  /** How many entries it pulled, and when the last, monotonic ms. */
  pulled = 0;
  pulledAt: number;
  /** Something was replied to. */
  answered = false;
  /** See {@link withdraw}. */
  withdrawn = false;
  readonly #withdrawal = new AbortController();
  readonly #o: DeliveryOptions;
  readonly #jobs = new Map<EntryId, Job>();
  /** The last entry pulled goes alone. */
  #isolated = false;
  /** Entries without all their outcomes. */
  #out = 0;
  /** Resolves when one of them has them, or the delivery is over. */
  #progress: Deferred<void> = deferred();
  #over = false;
  #look: (id: EntryId) => Wait | undefined = () => undefined;

  constructor(o: DeliveryOptions) {
    this.#o = o;
    this.pulledAt = o.env.monotonicNow();
  }

  /** What an entry it has waits for. */
  wait(id: EntryId): Wait | undefined {
    return this.#jobs.has(id) ? this.#look(id) : undefined;
  }

  /** Calls the courier; settles as it does. */
  async run(): Promise<void> {
    try {
      await this.#o.target.courier(this.#batch(), this.#report());
    } finally {
      this.end();
    }
  }

  /** What was pulled, in order, but for what has its replies: one call may take a hundred thousand. */
  get jobs(): readonly Job[] {
    return [...this.#jobs.values()];
  }

  /** Those of them that got no reply at all. */
  get unanswered(): readonly Job[] {
    return this.jobs.filter(({ outcomes }) => ![...outcomes.values()].some((outcome) => 'reply' in outcome));
  }

  /**
   * Takes everything back, unless something of it may be on its way already: what a courier waits for may take days.
   */
  withdraw(): void {
    if (this.jobs.some(({ attempted }) => attempted)) return;
    this.withdrawn = true;
    this.end();
    this.#withdrawal.abort(new Error('taken back'));
  }

  /** Nothing more is pulled. */
  end(): void {
    this.#over = true;
    this.#progress.resolve();
  }

  async *#batch(): AsyncGenerator<Entry> {
    const { backlog, isolated, desk, destination, env } = this.#o;
    for (let item = backlog.peek(); item !== undefined && !this.#over; item = backlog.peek()) {
      if (this.#out > 0 && (this.#isolated || isolated.has(item))) {
        await this.#progress.promise;
        continue;
      }
      backlog.take();
      const job = desk.prepare(destination, item);
      if (job === undefined) continue;
      this.#jobs.set(item.id, job);
      this.#out++;
      this.pulled++;
      this.#isolated = isolated.has(item);
      this.pulledAt = env.monotonicNow();
      yield job.entry;
    }
  }

  #report(): CourierReport {
    const { desk, isolated, signal, onReply } = this.#o;
    return {
      signal: AbortSignal.any([signal, this.#withdrawal.signal]),
      attempting: async (id, { receipt }) => {
        const job = this.#job(id);
        job.outages = job.destination.outages;
        await desk.attempting(job, receipt);
        job.attempted = true;
      },
      waits: (look) => {
        this.#look = look;
      },
      notAccepted: (id, to) => desk.notAccepted(this.#job(id), to),
      outcome: async (id, to, outcome) => {
        const job = this.#job(id);
        const replied = 'reply' in outcome;
        if (replied) {
          isolated.delete(job.item);
          this.answered = true;
          onReply();
        }
        await desk.outcome(job, to, outcome);
        if (!job.finished) return;
        if (replied) this.#jobs.delete(id);
        this.#next();
      },
    };
  }

  #job(id: EntryId): Job {
    const job = this.#jobs.get(id);
    if (job === undefined) throw new SpoolError(`the courier was not given ${id}`, { code: 'gone' });
    return job;
  }

  /** One more entry has all its outcomes. */
  #next(): void {
    this.#out--;
    this.#progress.resolve();
    this.#progress = deferred();
  }
}
