import {
  type CourierReport,
  type Deferred,
  deferred,
  type Entry,
  type EntryId,
  type ForwardPath,
  type Outcome,
  type ReversePath,
  SpoolError,
} from '@postern/core';
import type { Backlog } from './backlog.ts';
import type { Item } from './destination.ts';
import type { HostCourier } from './reachability.ts';

/** One pull of an entry by a courier. */
export interface Job {
  readonly item: Item;
  readonly entry: Entry;
  /** Those it is for. */
  readonly recipients: ReadonlySet<ForwardPath>;
  /** Number of the attempt, from 1. */
  n: number;
  attempted: boolean;
  /** Those of the recipients that are sent to only with proof that nothing was accepted before. */
  readonly asked: ReadonlySet<ForwardPath>;
  /** How often the way had been closed when it was pulled, or last attempted. */
  downs: number;
  /** The way was closed before all outcomes came. */
  linkLost: boolean;
  readonly outcomes: Map<ForwardPath, Outcome>;
  /** Outcomes being recorded. */
  readonly records: Promise<void>[];
  /** Of the message. */
  readonly from: ReversePath;
  readonly arrived: number;
  /** Set when every recipient has its outcome. */
  finished: boolean;
}

/** What a run needs of its lane. */
export interface RunOptions {
  readonly target: HostCourier;
  readonly backlog: Backlog<Item>;
  /** What goes alone, until it has a reply. */
  readonly alone: WeakSet<Item>;
  readonly signal: AbortSignal;
  readonly now: () => number;
  /** The job for an item, or undefined when there is nothing to try now. */
  prepare(item: Item): Job | undefined;
  attempting(job: Job, receipt: string | undefined): Promise<void>;
  disproved(job: Job, to: ForwardPath): Promise<void>;
  outcome(job: Job, to: ForwardPath, outcome: Outcome): Promise<void>;
}

/** One call of a courier: what it pulled, and what it said of that. */
export class Run {
  /** How many entries it pulled, and when the last, monotonic ms. */
  pulled = 0;
  pulledAt: number;
  /** Something was replied to. */
  answered = false;
  /** See {@link withdraw}. */
  withdrawn = false;
  readonly #withdrawal = new AbortController();
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

  /** What was pulled, in order, but for what has its replies: a run may take a hundred thousand. */
  get jobs(): readonly Job[] {
    return [...this.#jobs.values()];
  }

  /** Those of them that got no reply at all. */
  get unanswered(): readonly Job[] {
    return this.jobs.filter(({ outcomes }) => ![...outcomes.values()].some((outcome) => 'reply' in outcome));
  }

  /** Takes everything back, unless something of it may be on its way already: what a courier waits for may take days. */
  withdraw(): void {
    if (this.jobs.some(({ attempted }) => attempted)) return;
    this.withdrawn = true;
    this.end();
    this.#withdrawal.abort(new Error('taken back'));
  }

  /** Nothing more is pulled. */
  end(): void {
    this.#over = true;
    this.#turn.resolve();
  }

  async *#batch(): AsyncGenerator<Entry> {
    const { backlog, alone, prepare, now } = this.#o;
    for (let item = backlog.peek(); item !== undefined && !this.#over; item = backlog.peek()) {
      if (this.#out > 0 && (this.#alone || alone.has(item))) {
        await this.#turn.promise;
        continue;
      }
      backlog.take();
      const job = prepare(item);
      if (job === undefined) continue;
      this.#jobs.set(item.id, job);
      this.#out++;
      this.pulled++;
      this.#alone = alone.has(item);
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
      signal: AbortSignal.any([this.#o.signal, this.#withdrawal.signal]),
      attempting: async (id, { receipt }) => {
        const found = job(id);
        await this.#o.attempting(found, receipt);
        found.attempted = true;
      },
      disproved: (id, to) => this.#o.disproved(job(id), to),
      outcome: async (id, to, outcome) => {
        const found = job(id);
        const replied = 'reply' in outcome;
        if (replied) this.#o.alone.delete(found.item);
        this.answered ||= replied;
        await this.#o.outcome(found, to, outcome);
        if (!found.finished) return;
        if (replied) this.#jobs.delete(id);
        this.#next();
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
