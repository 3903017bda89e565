/** What is left to send, one transaction's worth at a time; what a session did not settle comes back first. */
import type { Entry, Limits, Recipient } from '@postern/core';

/** An entry, or the part of its recipients that goes into one transaction. */
export interface Job {
  readonly entry: Entry;
  readonly recipients: readonly Recipient[];
  /** Its attempt is recorded, or being recorded; shared by all parts of an entry. */
  readonly attempt: { recorded: Promise<void> | undefined };
  /** Sessions that ended before they settled it. */
  readonly returns: number;
  /** What its last return was about, for people. */
  readonly reason?: string;
}

/** Most recipients of one transaction: what every server takes (RFC 5321 §4.5.3.1.8 asks for 100; Postfix 3.7 stops at 1000). */
export const TRANSACTION_RECIPIENTS = 1000;

/**
 * What is left to send: jobs that came back, then the batch. One entry is pulled ahead at most, and it is not lost when a session ends while
 * it was waited for.
 */
export class JobSource {
  readonly #iterator: AsyncIterator<Entry>;
  readonly #returned: Job[] = [];
  readonly #fresh: Job[] = [];
  #pulling: Promise<void> | undefined;
  #exhausted = false;
  #closed = false;
  #error: { readonly cause: unknown } | undefined;

  readonly #prepare: (entry: Entry) => Promise<readonly Recipient[]>;

  /** `prepare` says which recipients of an entry to send to. */
  constructor(batch: AsyncIterable<Entry>, prepare: (entry: Entry) => Promise<readonly Recipient[]>) {
    this.#iterator = batch[Symbol.asyncIterator]();
    this.#prepare = prepare;
  }

  /** Nothing is left, and nothing will come. Throws what the batch threw. */
  get done(): boolean {
    if (this.#error !== undefined && this.#returned.length + this.#fresh.length === 0) throw this.#error.cause;
    return this.#exhausted && this.#returned.length + this.#fresh.length === 0;
  }

  /** The next job, if one is at hand. */
  take(): Job | undefined {
    return this.#returned.shift() ?? this.#fresh.shift();
  }

  /** Resolves when {@link take} has something, or {@link done} is true or throws. */
  async ready(): Promise<void> {
    if (this.#returned.length + this.#fresh.length > 0 || this.#exhausted) return;
    this.#pulling ??= this.#pull();
    await this.#pulling;
  }

  /** Puts a job back in front. */
  putBack(job: Job): void {
    this.#returned.push(job);
  }

  /** Takes out every job that came back. */
  drain(): Job[] {
    return this.#returned.splice(0);
  }

  /** Tells the batch that no more is wanted. Does not wait: a generator that is waiting for an entry hears of it only then. */
  close(): void {
    this.#closed = true;
    if (!this.#exhausted) this.#iterator.return?.().catch(() => {});
  }

  async #pull(): Promise<void> {
    try {
      const { value: entry, done } = await this.#iterator.next();
      // Nobody is there any more to hear what became of its earlier attempts.
      if (this.#closed) return;
      if (done === true) this.#exhausted = true;
      else this.#fresh.push(...toJobs(entry, await this.#prepare(entry)));
    } catch (cause) {
      this.#exhausted = true;
      this.#error = { cause };
    } finally {
      this.#pulling = undefined;
    }
  }
}

/** A job within the server's limits (RFC 9422), and what is left of it for another transaction. */
export function withinLimits(job: Job, limits: Limits): { now: Job; later: Job | undefined } {
  const most = limits.rcptMax ?? Number.POSITIVE_INFINITY;
  const mostDomains = limits.rcptDomainMax ?? Number.POSITIVE_INFINITY;
  const domains = new Set<string>();
  const now: Recipient[] = [];
  const later: Recipient[] = [];
  for (const recipient of job.recipients) {
    const domain = recipient.to.slice(recipient.to.lastIndexOf('@') + 1).toLowerCase();
    const fits = now.length < most && (domains.has(domain) || domains.size < mostDomains);
    if (fits) domains.add(domain);
    (fits ? now : later).push(recipient);
  }
  if (later.length === 0) return { now: job, later: undefined };
  return { now: { ...job, recipients: now }, later: { ...job, recipients: later } };
}

function toJobs(entry: Entry, recipients: readonly Recipient[]): Job[] {
  const attempt = { recorded: undefined };
  const parts = Math.ceil(recipients.length / TRANSACTION_RECIPIENTS);
  return Array.from({ length: parts }, (_, at) => ({
    entry,
    recipients: recipients.slice(at * TRANSACTION_RECIPIENTS, (at + 1) * TRANSACTION_RECIPIENTS),
    attempt,
    returns: 0,
  }));
}
