/** One session over one channel: the machine says what is written and what replies mean, and this file moves the octets and keeps the time. */
import type { Duplex } from 'node:stream';
import {
  type ClientEvent,
  type ClientMachine,
  createClient,
  createReplyParser,
  type Deferred,
  deferred,
  type EntryId,
  LinkError,
  lastWords,
  printable,
  type ReplyEvent,
  type ReplyParser,
  type Wait,
} from '@postern/core';
import { DeliveryError } from './error.ts';
import { Outbox } from './outbox.ts';
import { isAnnounced, withoutAnnouncement } from './receipt.ts';
import { Reports } from './reports.ts';
import { closedBy, endedBy, notSmtp, outOfStep, refusedBy } from './session-errors.ts';
import {
  BLOCKED_TIMEOUT_MS,
  LINGER_MS,
  PROBE_MS,
  REPLY_TIMEOUT_MS,
  type SessionOptions,
  type SessionResult,
  STRANGER_MS,
} from './session-options.ts';
import { type TransactionSession, Transactions } from './transactions.ts';
import { Watchdog } from './watchdog.ts';

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
  readonly #transactions: Transactions;
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

  constructor(o: SessionOptions) {
    this.#o = o;
    this.#stream = o.channel.stream;
    this.#machine = createClient(o.client);
    const onError = (error: unknown): void => this.#fail(error);
    this.#outbox = new Outbox(this.#stream, { onProgress: () => this.#progress(), onError });
    this.#reports = new Reports(o.report, o.source, { onError, onChange: () => this.#wake() });
    this.#transactions = new Transactions(o, this.#asSeen());
    this.#watchdog = new Watchdog(o.env, { limit: () => this.#limit(), expired: (ms) => this.#expire(ms) });
  }

  /** What its transactions see of it. */
  #asSeen(): TransactionSession {
    const isOver = (): boolean => this.#error !== undefined;
    return {
      machine: this.#machine,
      outbox: this.#outbox,
      reports: this.#reports,
      get over() {
        return isOver();
      },
      changed: () => this.#change.promise,
      fail: (error) => this.#fail(error),
    };
  }

  async run(): Promise<SessionResult> {
    const { signal } = this.#o.report;
    const onAbort = (): void => this.#abort();
    signal.addEventListener('abort', onAbort, { once: true });
    this.#o.waits((id) => this.#wait(id));
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
        this.#transactions.hasReceipt = this.#o.receipt !== undefined && isAnnounced(this.#stderr());
        onEvent({ type: 'ready', session, extensions: event.extensions, dialogue: event.dialogue });
        break;
      case 'settled':
        this.#transactions.settle(event);
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
      this.#fail(endedBy(exit, { greeted, stderr: withoutAnnouncement(this.#stderr()) }));
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
      } else if (step.type === 'message') await this.#transactions.write(step);
      else if (step.type === 'offer') await this.#transactions.offer();
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

  // -- ends ---------------------------------------------------------------------------------------------------------

  /** Ends the session: what is open is settled by what is known. The first error counts; after QUIT there is none. */
  #fail(error: unknown): void {
    if (this.#error !== undefined) return;
    if (!this.#machine.quit || this.#machine.open > 0) {
      this.#error = { cause: error };
      for (const event of this.#machine.end()) if (event.type === 'settled') this.#transactions.settle(event);
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

  #wait(id: EntryId): Wait | undefined {
    const { awaiting } = this.#machine;
    const ms = this.#watchdog.quietMs;
    if (this.#outbox.blocked) return { for: 'room', ms };
    if (awaiting === undefined || !this.#ready) return awaiting && { for: awaiting, ms };
    const key = this.#transactions.keyOf(id);
    if (key === undefined) return { for: 'turn', ms };
    const own = this.#machine.state.awaiting.find(({ transaction }) => transaction?.key === key);
    return { for: own?.command ?? awaiting, ms };
  }

  #expire(ms: number): void {
    const what = this.#outbox.blocked ? 'took no data' : `did not answer ${this.#machine.awaiting}`;
    this.#fail(new DeliveryError(`the far side ${what} for ${Math.round(ms / 1000)} s`, { code: 'timeout' }));
  }
}
