/** Jobs become transactions, as many at once as the session may have open; each comes back as outcomes, or to be sent again. */
import {
  type ClientEvent,
  type ClientMachine,
  type ClientStep,
  type EntryId,
  printable,
  unsendable,
} from '@postern/core';
import { encoded, wantsEncoding } from './encoded.ts';
import { DeliveryError } from './error.ts';
import { type Job, withinLimits } from './jobs.ts';
import type { Outbox } from './outbox.ts';
import { formatPlace } from './receipt.ts';
import type { Reports } from './reports.ts';
import { type SessionOptions, WINDOW_START, WINDOW_STEP } from './session-options.ts';
import { writeMessage } from './write-message.ts';

/** The session they are of. */
export interface TransactionSession {
  readonly machine: ClientMachine;
  readonly outbox: Outbox;
  readonly reports: Reports;
  /** It has ended with an error: nothing more is written. */
  readonly over: boolean;
  /** Resolves when a reply, an outcome or the end has come. */
  changed(): Promise<void>;
  fail(error: unknown): void;
}

/** The transactions of one session. */
export class Transactions {
  readonly #o: SessionOptions;
  readonly #session: TransactionSession;
  readonly #jobs = new Map<number, { readonly job: Job; receipt: string | undefined }>();
  /** The far side keeps a receipt. */
  hasReceipt = false;
  /** Messages taken. */
  #accepted = 0;
  /** Transactions begun. */
  #submitted = 0;

  constructor(o: SessionOptions, session: TransactionSession) {
    this.#o = o;
    this.#session = session;
  }

  /** The transaction of an entry that is not settled. */
  keyOf(id: EntryId): number | undefined {
    for (const [key, { job }] of this.#jobs) if (job.entry.id === id) return key;
    return undefined;
  }

  /** Tells what became of a job, or puts it back. */
  settle(event: ClientEvent & { type: 'settled' }): void {
    const sent = this.#jobs.get(event.key);
    this.#jobs.delete(event.key);
    const { dsn } = this.#session.machine.extensions;
    if (event.verdicts.some((verdict) => verdict.type === 'delivered')) this.#accepted++;
    if (sent !== undefined) this.#session.reports.settle(sent.job, event.verdicts, { dsn, receipt: sent.receipt });
  }

  /** Takes the next job if there is room for one, or waits until there may be; ends the session's transactions when nothing is left. */
  async offer(): Promise<void> {
    const { source } = this.#o;
    const spent = this.#submitted >= (this.#session.machine.extensions.limits.mailMax ?? Number.POSITIVE_INFINITY);
    if (this.#o.report.signal.aborted || ((spent || source.done) && this.#mayFinish)) {
      this.#session.machine.finish();
      return;
    }
    const full = spent || this.#session.reports.busy || this.#session.machine.open >= this.#window;
    const taken = full ? undefined : source.take();
    if (taken === undefined) {
      const change = this.#session.changed();
      this.#session.outbox.flush();
      await Promise.race(full || source.done ? [change] : [source.ready(), change]);
      return;
    }
    await this.#fitted(taken);
  }

  /** Submits a job, its message encoded where the server wants that; the session may end while it is read. */
  async #fitted(job: Job): Promise<void> {
    const { client, source } = this.#o;
    // What a batch leads to is not known before it is written (RFC 2442).
    const extensions = client.dialogue === 'bsmtp' ? undefined : this.#session.machine.extensions;
    if (!wantsEncoding(job.entry, extensions)) return this.#submit(job);
    try {
      const entry = await encoded(job.entry, extensions);
      if (!this.#session.over) this.#submit({ ...job, entry });
      else source.putBack(job);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      const outcome = { type: 'deferred', reason: printable(`the message could not be read: ${why}`) } as const;
      this.#session.reports.tell(
        job,
        job.recipients.map((recipient) => [recipient, outcome]),
        { quiet: true },
      );
    }
  }

  #submit(taken: Job): void {
    const { source, client } = this.#o;
    const { extensions } = this.#session.machine;
    const { now: job, later } = withinLimits(taken, extensions.limits);
    if (later !== undefined) source.putBack(later);
    const { entry, recipients } = job;
    const refusal =
      client.dialogue === 'bsmtp' ? undefined : unsendable(entry.envelope, { size: entry.size, extensions });
    if (refusal === undefined) {
      const key = this.#session.machine.submit({ envelope: { ...entry.envelope, recipients }, size: entry.size });
      this.#jobs.set(key, { job, receipt: undefined });
      this.#submitted++;
    } else
      this.#session.reports.tell(
        job,
        recipients.map((recipient) => [recipient, refusal]),
      );
  }

  /** Before all is answered, recipients may still come back for another transaction; `bsmtp` does not wait for that. */
  get #mayFinish(): boolean {
    // Outcomes are durable before QUIT, because with it the far side may forget its receipt.
    return (this.#session.machine.open === 0 && this.#session.reports.quiet) || this.#o.client.dialogue === 'bsmtp';
  }

  get #window(): number {
    if (this.#o.client.dialogue === 'bsmtp') return Number.POSITIVE_INFINITY;
    const { receipt, none } = this.#o.windows;
    return this.hasReceipt ? Math.min(receipt, WINDOW_START + WINDOW_STEP * this.#accepted) : none;
  }

  /** Writes a message, its attempt recorded before the last byte leaves. */
  async write(step: ClientStep & { type: 'message' }): Promise<void> {
    const { key } = step;
    const sent = this.#jobs.get(key);
    if (sent === undefined) return;
    const { job } = sent;
    const barrier = (octets: number): void => {
      sent.receipt = this.#place(key, { job, end: this.#session.outbox.total + octets });
      this.#session.outbox.barrier(this.#session.reports.attempt(job, sent.receipt), () =>
        this.#session.machine.left(key),
      );
    };
    try {
      await writeMessage(job.entry, {
        step,
        outbox: this.#session.outbox,
        gate: barrier,
        stop: () => this.#session.over,
      });
    } catch (cause) {
      if (!this.#session.over) await this.#unreadable(step.key, job, cause);
    }
  }

  #place(key: number, { job, end }: { job: Job; end: number }): string | undefined {
    const places = this.#session.machine.places(key);
    if (!this.hasReceipt || places === undefined || this.#o.receipt === undefined) return undefined;
    return formatPlace(
      { name: this.#o.receipt, ...places, end },
      job.recipients.map(({ to }) => to),
    );
  }

  /** Half a message is out and cannot be taken back: what went before it is still read, then the session is dropped. */
  async #unreadable(key: number, job: Job, cause: unknown): Promise<void> {
    const error = new DeliveryError('the message could not be read', { code: 'message', cause });
    this.#o.onEvent({ type: 'unreadable', id: job.entry.id, error });
    this.#jobs.delete(key);
    const reason = printable(`${error.message}: ${cause instanceof Error ? cause.message : String(cause)}`);
    // The spool may have put a damaged entry away already: then nobody wants to hear of it.
    this.#session.reports.tell(
      job,
      job.recipients.map((recipient) => [recipient, { type: 'deferred', reason }]),
      { quiet: true },
    );
    while (!this.#session.over && this.#session.machine.open > 1) await this.#session.changed();
    this.#session.fail(error);
  }
}
