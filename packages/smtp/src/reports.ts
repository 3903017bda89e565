/** Every job is told once: an outcome after its attempt is recorded, or it goes back to be sent again. */
import { type CourierReport, type Outcome, type Recipient, replyText, type Verdict } from '@postern/core';
import type { Job, JobSource } from './jobs.ts';

/** Most entries whose outcomes are being recorded at once. */
export const MAX_REPORTS = 64;

/** Tells a courier's caller what became of each job, and puts back what was not sent. */
export class Reports {
  readonly #report: CourierReport;
  readonly #source: JobSource;
  readonly #o: { onError: (error: unknown) => void; onChange: () => void };
  readonly #pending = new Set<Promise<void>>();
  /** Outcomes told so far. */
  settled = 0;

  constructor(
    report: CourierReport,
    source: JobSource,
    o: { onError: (error: unknown) => void; onChange: () => void },
  ) {
    this.#report = report;
    this.#source = source;
    this.#o = o;
  }

  /** True when nothing is being recorded. */
  get quiet(): boolean {
    return this.#pending.size === 0;
  }

  /** True when enough is being recorded already. */
  get busy(): boolean {
    return this.#pending.size >= MAX_REPORTS;
  }

  /** Resolves when all that was told is recorded. */
  async idle(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all(this.#pending);
  }

  /** Records the attempt, once per entry or once per receipt; what must be durable before the last byte leaves. */
  attempt(job: Job, receipt?: string): Promise<void> {
    if (receipt !== undefined) job.attempt.recorded = this.#report.attempting(job.entry.id, { receipt });
    job.attempt.recorded ??= this.#report.attempting(job.entry.id, {});
    return job.attempt.recorded;
  }

  /** Tells each recipient its outcome; with `quiet` a failure to record is nobody's business. */
  tell(job: Job, outcomes: readonly [Recipient, Outcome][], o: { quiet?: boolean } = {}): void {
    this.settled += outcomes.length;
    const told = this.#tell(job, outcomes)
      .catch((error) => (o.quiet === true ? undefined : this.#o.onError(error)))
      .finally(() => {
        this.#pending.delete(told);
        this.#o.onChange();
      });
    this.#pending.add(told);
  }

  /** Takes the verdicts of a job's transaction. `dsn`: the far side has taken over the DSN requests. */
  settle(job: Job, verdicts: readonly Verdict[], o: { dsn: boolean; receipt: string | undefined }): void {
    const told: [Recipient, Outcome][] = [];
    const again: Recipient[] = [];
    let reason: string | undefined;
    for (const [at, recipient] of job.recipients.entries()) {
      const verdict = verdicts[at] ?? { type: 'unsent' };
      if (verdict.type === 'unsent') {
        again.push(recipient);
        if (verdict.reply !== undefined) reason ??= replyText(verdict.reply);
      } else told.push([recipient, complete(verdict, { recipient, ...o })]);
    }
    // Put back first: the writer may be asking for the next job at this moment.
    if (again.length > 0) {
      const returns = told.length > 0 ? 0 : job.returns + 1;
      this.#source.putBack({ ...job, recipients: again, returns, ...(reason === undefined ? {} : { reason }) });
    }
    if (told.length > 0) this.tell(job, told);
  }

  async #tell(job: Job, outcomes: readonly [Recipient, Outcome][]): Promise<void> {
    await this.attempt(job);
    for (const [recipient, outcome] of outcomes) await this.#report.outcome(job.entry.id, recipient.to, outcome);
  }
}

function complete(outcome: Outcome, o: { recipient: Recipient; dsn: boolean; receipt: string | undefined }): Outcome {
  if (outcome.type === 'uncertain') return o.receipt === undefined ? outcome : { ...outcome, receipt: o.receipt };
  const relayed = outcome.type === 'delivered' && !o.dsn && o.recipient.notify?.includes('SUCCESS') === true;
  return relayed ? { ...outcome, relayed } : outcome;
}
