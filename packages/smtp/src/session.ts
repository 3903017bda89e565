/** One session over one channel: the machine says what is written and what replies mean, and this file moves the octets and keeps the time. */
import type { Duplex } from 'node:stream';
import {
  type ClientEvent,
  type ClientMachine,
  type ClientStep,
  createClient,
  createReplyParser,
  type Deferred,
  deferred,
  LinkError,
  lastWords,
  printable,
  type ReplyEvent,
  type ReplyParser,
  unsendable,
} from '@postern/core';
import { encoded, wantsEncoding } from './encoded.ts';
import { DeliveryError } from './error.ts';
import { type Job, withinLimits } from './jobs.ts';
import { Outbox } from './outbox.ts';
import { formatPlace, isAnnounced, withoutAnnouncement } from './receipt.ts';
import { Reports } from './reports.ts';
import { closedBy, notSmtp, outOfStep, refusedBy } from './session-errors.ts';
import {
  BLOCKED_TIMEOUT_MS,
  LINGER_MS,
  PROBE_MS,
  REPLY_TIMEOUT_MS,
  type SessionOptions,
  type SessionResult,
  STRANGER_MS,
  WINDOW_START,
  WINDOW_STEP,
} from './session-options.ts';
import { Watchdog } from './watchdog.ts';
import { writeMessage } from './write-message.ts';

/**
 * Runs one session over an open channel until the source is exhausted or the session ends. Writes and reads at the same time. What it
 * could not settle is put back.
 */
export function runSession(o: SessionOptions): Promise<SessionResult> {
  return new Session(o).run();
}

class Session {
  readonly #o: SessionOptions;
  readonly #machine: ClientMachine;
  readonly #outbox: Outbox;
  readonly #reports: Reports;
  readonly #watchdog: Watchdog;
  readonly #jobs = new Map<number, { readonly job: Job; receipt: string | undefined }>();
  readonly #over: Deferred<void> = deferred();
  #stream: Duplex;
  #parser: ReplyParser = createReplyParser();
  #change: Deferred<void> = deferred();
  #lingering: Disposable | undefined;
  #stranger: Disposable | undefined;
  #probing: Disposable | undefined;
  #probed = false;
  #closing: DeliveryError | undefined;
  #error: { readonly cause: unknown } | undefined;
  #ready = false;
  #hasReceipt = false;
  /** Messages taken. */
  #accepted = 0;
  /** Transactions begun. */
  #submitted = 0;

  constructor(o: SessionOptions) {
    this.#o = o;
    this.#stream = o.channel.stream;
    this.#machine = createClient(o.client);
    const onError = (error: unknown): void => this.#fail(error);
    this.#outbox = new Outbox(this.#stream, { onProgress: () => this.#progress(), onError });
    this.#reports = new Reports(o.report, o.source, { onError, onChange: () => this.#wake() });
    this.#watchdog = new Watchdog(o.env, { limit: () => this.#limit(), expired: (ms) => this.#expire(ms) });
  }

  async run(): Promise<SessionResult> {
    const { signal } = this.#o.report;
    const onAbort = (): void => this.#abort();
    signal.addEventListener('abort', onAbort, { once: true });
    this.#listen();
    if (signal.aborted) this.#abort();
    const writing = this.#write().catch((error) => this.#fail(error));
    await this.#over.promise;
    signal.removeEventListener('abort', onAbort);
    this.#watchdog[Symbol.dispose]();
    this.#lingering?.[Symbol.dispose]();
    this.#stranger?.[Symbol.dispose]();
    this.#probing?.[Symbol.dispose]();
    this.#outbox[Symbol.dispose]();
    this.#close();
    this.#wake();
    await writing;
    await this.#reports.idle();
    const { settled } = this.#reports;
    const wrapped = isAnnounced(this.#stderr());
    return this.#error === undefined ? { settled, wrapped } : { settled, wrapped, error: this.#error.cause };
  }

  // -- reading ------------------------------------------------------------------------------------------------------

  #listen(): void {
    const stream = this.#stream;
    this.#parser = createReplyParser({ skipNoise: this.#o.skipNoise && this.#machine.awaiting === 'greeting' });
    stream.on('data', this.#onData);
    stream.on('error', (error) => this.#broken(error));
    stream.on('end', this.#onEnd);
    stream.on('close', this.#onEnd);
  }

  readonly #onEnd = (): void => void this.#ended();

  readonly #onData = (chunk: Buffer): void => {
    this.#watchdog.progress();
    this.#probeLater();
    for (const event of this.#parser.push(chunk)) this.#read(event);
    this.#stranger?.[Symbol.dispose]();
    if (this.#parser.noise !== '' && this.#error === undefined) {
      this.#stranger = this.#o.env.schedule(STRANGER_MS, () => this.#fail(notSmtp(this.#parser.noise)));
    }
    this.#wake();
  };

  /** A probe is no progress: the reply that is awaited gets no longer for it. */
  #progress(): void {
    if (!this.#probed) this.#watchdog.progress();
    this.#probed = false;
  }

  /** Once a silence. */
  #probeLater(): void {
    this.#probing?.[Symbol.dispose]();
    this.#probing = this.#o.env.schedule(PROBE_MS, () => {
      if (this.#error !== undefined) return;
      const bytes = this.#outbox.blocked ? undefined : this.#machine.probe();
      if (bytes === undefined) return this.#probeLater();
      this.#probed = true;
      this.#outbox.push(bytes);
    });
  }

  /** STARTTLS: nothing of the plain connection is left over afterwards (RFC 3207 §4.2). */
  async #upgrade(): Promise<void> {
    const { upgrade, report } = this.#o;
    if (upgrade === undefined) throw new DeliveryError('no TLS within a link', { code: 'tls' });
    await this.#outbox.empty();
    const plain = this.#stream;
    if (this.#parser.pending) throw new DeliveryError('the server spoke before TLS was up', { code: 'tls' });
    plain.off('data', this.#onData).off('end', this.#onEnd).off('close', this.#onEnd);
    this.#stream = await upgrade(plain, report.signal);
    this.#outbox.attach(this.#stream);
    this.#machine.upgraded();
    this.#listen();
  }

  #read(event: ReplyEvent): void {
    if (this.#error !== undefined) return;
    if (event.type === 'malformed') {
      const message = `the far side does not speak SMTP: ${event.reason}: ${printable(event.line, 120)}`;
      this.#fail(new DeliveryError(message, { code: 'protocol' }));
      return;
    }
    for (const told of this.#machine.receive(event.reply)) this.#handle(told);
    if (this.#machine.quit && this.#machine.open === 0) this.#over.resolve();
  }

  #handle(event: ClientEvent): void {
    const { number: session, onEvent } = this.#o;
    switch (event.type) {
      case 'ready':
        this.#ready = true;
        this.#hasReceipt = this.#o.receipt !== undefined && isAnnounced(this.#stderr());
        onEvent({ type: 'ready', session, extensions: event.extensions, dialogue: event.dialogue });
        break;
      case 'settled':
        this.#settle(event);
        break;
      case 'closing':
        onEvent({ type: 'closing', session, reply: event.reply });
        this.#closing = closedBy(event);
        this.#linger(this.#closing, LINGER_MS);
        // A netcat whose server has closed stays as long as its input is open.
        this.#outbox[Symbol.dispose]();
        this.#stream.end();
        break;
      case 'refused':
        this.#fail(refusedBy(event));
        break;
      case 'out-of-step':
        this.#fail(outOfStep(event));
    }
  }

  #settle(event: ClientEvent & { type: 'settled' }): void {
    const sent = this.#jobs.get(event.key);
    this.#jobs.delete(event.key);
    const { dsn } = this.#machine.extensions;
    if (event.verdicts.some((verdict) => verdict.type === 'delivered')) this.#accepted++;
    if (sent !== undefined) this.#reports.settle(sent.job, event.verdicts, { dsn, receipt: sent.receipt });
  }

  /** A socket or a pipe has its own errors; only a `LinkError` says that the link is to blame. */
  #broken(error: Error): void {
    const known = error instanceof LinkError || error instanceof DeliveryError;
    this.#fail(
      known ? error : (this.#closing ?? new DeliveryError('the far side broke off', { code: 'closed', cause: error })),
    );
  }

  /** The far side's output has ended. Its exit comes after that, and says more. */
  async #ended(): Promise<void> {
    if (this.#error !== undefined) return;
    const { exit } = await lastWords(this.#o.channel, this.#o.env, LINGER_MS);
    if (exit?.type === 'lost') this.#fail(exit.error);
    else if (this.#closing !== undefined) this.#fail(this.#closing);
    else {
      const greeted = this.#machine.awaiting !== 'greeting';
      const status =
        exit?.type === 'exit' ? `, exit status ${exit.code}` : exit?.type === 'signal' ? `, ${exit.name}` : '';
      const stderr = printable(withoutAnnouncement(this.#stderr()).trim(), 300);
      const message = greeted ? 'the far side closed the session' : 'the far side ended without a greeting';
      // Whatever its status: behind a receipt it is the wrapper's.
      const isCommand = exit?.type === 'signal' || exit?.type === 'exit';
      const code = !greeted && isCommand ? 'command' : 'closed';
      this.#fail(new DeliveryError(`${message}${status}${stderr === '' ? '' : `: ${stderr}`}`, { code }));
    }
  }

  #stderr(): string {
    return this.#o.channel.stderrTail().toString('utf8');
  }

  // -- writing ------------------------------------------------------------------------------------------------------

  async #write(): Promise<void> {
    while (this.#error === undefined) {
      const step = this.#machine.next();
      if (step.type === 'write') {
        this.#outbox.push(step.bytes);
        await this.#outbox.room();
      } else if (step.type === 'message') await this.#writeMessage(step);
      else if (step.type === 'offer') await this.#offer();
      else if (step.type === 'upgrade') await this.#upgrade();
      else if (step.type === 'over') return this.#fail(this.#closing);
      else if (this.#machine.quit && this.#machine.open === 0) {
        await this.#outbox.empty();
        return this.#over.resolve();
      } else {
        // Before the flush: a stream in memory may bring the reply while it is written to.
        const change = this.#change.promise;
        this.#outbox.flush();
        await change;
      }
    }
  }

  async #offer(): Promise<void> {
    const { source } = this.#o;
    const spent = this.#submitted >= (this.#machine.extensions.limits.mailMax ?? Number.POSITIVE_INFINITY);
    if (this.#o.report.signal.aborted || ((spent || source.done) && this.#mayFinish)) {
      this.#machine.finish();
      return;
    }
    const full = spent || this.#reports.busy || this.#machine.open >= this.#window;
    const taken = full ? undefined : source.take();
    if (taken === undefined) {
      const change = this.#change.promise;
      this.#outbox.flush();
      await Promise.race(full || source.done ? [change] : [source.ready(), change]);
      return;
    }
    await this.#fitted(taken);
  }

  /** Submits a job, its message encoded where the server wants that; the session may end while it is read. */
  async #fitted(job: Job): Promise<void> {
    const { client, source } = this.#o;
    // What a batch leads to is not known before it is written (RFC 2442).
    const extensions = client.dialogue === 'bsmtp' ? undefined : this.#machine.extensions;
    if (!wantsEncoding(job.entry, extensions)) return this.#submit(job);
    try {
      const entry = await encoded(job.entry, extensions);
      if (this.#error === undefined) this.#submit({ ...job, entry });
      else source.putBack(job);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      const outcome = { type: 'deferred', reason: printable(`the message could not be read: ${why}`) } as const;
      this.#reports.tell(
        job,
        job.recipients.map((recipient) => [recipient, outcome]),
        { quiet: true },
      );
    }
  }

  #submit(taken: Job): void {
    const { source, client } = this.#o;
    const { extensions } = this.#machine;
    const { now: job, later } = withinLimits(taken, extensions.limits);
    if (later !== undefined) source.putBack(later);
    const { entry, recipients } = job;
    const refusal =
      client.dialogue === 'bsmtp' ? undefined : unsendable(entry.envelope, { size: entry.size, extensions });
    if (refusal === undefined) {
      const key = this.#machine.submit({ envelope: { ...entry.envelope, recipients }, size: entry.size });
      this.#jobs.set(key, { job, receipt: undefined });
      this.#submitted++;
    } else
      this.#reports.tell(
        job,
        recipients.map((recipient) => [recipient, refusal]),
      );
  }

  /** Before all is answered, recipients may still come back for another transaction; `bsmtp` does not wait for that. */
  get #mayFinish(): boolean {
    // Outcomes are durable before QUIT, because with it the far side may forget its receipt.
    return (this.#machine.open === 0 && this.#reports.quiet) || this.#o.client.dialogue === 'bsmtp';
  }

  get #window(): number {
    if (this.#o.client.dialogue === 'bsmtp') return Number.POSITIVE_INFINITY;
    const { receipt, none } = this.#o.windows;
    return this.#hasReceipt ? Math.min(receipt, WINDOW_START + WINDOW_STEP * this.#accepted) : none;
  }

  async #writeMessage(step: ClientStep & { type: 'message' }): Promise<void> {
    const { key } = step;
    const sent = this.#jobs.get(key);
    if (sent === undefined) return;
    const { job } = sent;
    const barrier = (octets: number): void => {
      sent.receipt = this.#place(key, { job, end: this.#outbox.total + octets });
      this.#outbox.barrier(this.#reports.attempt(job, sent.receipt), () => this.#machine.left(key));
    };
    try {
      await writeMessage(job.entry, {
        step,
        outbox: this.#outbox,
        gate: barrier,
        stop: () => this.#error !== undefined,
      });
    } catch (cause) {
      if (this.#error === undefined) await this.#unreadable(step.key, job, cause);
    }
  }

  #place(key: number, { job, end }: { job: Job; end: number }): string | undefined {
    const places = this.#machine.places(key);
    if (!this.#hasReceipt || places === undefined || this.#o.receipt === undefined) return undefined;
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
    this.#reports.tell(
      job,
      job.recipients.map((recipient) => [recipient, { type: 'deferred', reason }]),
      { quiet: true },
    );
    while (this.#error === undefined && this.#machine.open > 1) await this.#change.promise;
    this.#fail(error);
  }

  // -- ends ---------------------------------------------------------------------------------------------------------

  /** Ends the session: what is open is settled by what is known. The first error counts; after QUIT there is none. */
  #fail(error: unknown): void {
    if (this.#error !== undefined) return;
    if (!this.#machine.quit || this.#machine.open > 0) {
      this.#error = { cause: error };
      for (const event of this.#machine.end()) if (event.type === 'settled') this.#settle(event);
    }
    this.#over.resolve();
    this.#wake();
  }

  #abort(): void {
    const reason = this.#o.report.signal.reason;
    if (!this.#ready && this.#machine.open === 0) this.#fail(reason);
    else this.#linger(reason, LINGER_MS);
    this.#wake();
  }

  #linger(error: unknown, ms: number): void {
    this.#lingering ??= this.#o.env.schedule(ms, () => this.#fail(error));
  }

  #close(): void {
    const { channel, env } = this.#o;
    const cause = this.#error?.cause;
    if (this.#error !== undefined) {
      channel.abort(cause instanceof Error ? cause : new DeliveryError('ended', { code: 'aborted', cause }));
      return;
    }
    // Exim 4.96 delays its reply to QUIT by 200 ms: the caller does not wait for that. Input stays open until then, see receipt.ts.
    this.#stream.on('data', () => this.#stream.end());
    const timer = env.schedule(REPLY_TIMEOUT_MS.quit, () => {
      channel.abort(new DeliveryError('no reply to QUIT', { code: 'timeout' }));
    });
    void channel.exit.then(() => timer[Symbol.dispose]());
  }

  #wake(): void {
    const change = this.#change;
    this.#change = deferred();
    change.resolve();
  }

  #limit(): number | undefined {
    if (this.#outbox.blocked) return BLOCKED_TIMEOUT_MS;
    const { awaiting } = this.#machine;
    return awaiting === undefined ? undefined : REPLY_TIMEOUT_MS[awaiting];
  }

  #expire(ms: number): void {
    const what = this.#outbox.blocked ? 'took no data' : `did not answer ${this.#machine.awaiting}`;
    this.#fail(new DeliveryError(`the far side ${what} for ${Math.round(ms / 1000)} s`, { code: 'timeout' }));
  }
}
