/** A client's session and the far sessions beneath it, one after the other: the tap says what to write, this writes it and opens the next. */
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { type Channel, deferred, type Env, LinkError, MAX_WAITING, sleep, Tap, type TapActions } from '@postern/core';
import { ImapError } from './errors.ts';
import type { SpliceEnd } from './event.ts';
import type { Imapd } from './imapd.ts';
import { HALF_CLOSED_SILENCE_MS, MAX_DEATHS, MAX_REOPEN_PAUSE_MS, PATIENCE_MS } from './limits.ts';
import type { Session } from './session.ts';
import { closeGently, lostBecause, type Splice } from './splice.ts';

/** How sessions are carried over. */
export interface Continuity {
  /** How long a client waits for a link that is down, ms (default {@link PATIENCE_MS}). */
  readonly patienceMs?: number;
}

/** Options of {@link carry}. */
export interface CarryOptions extends Continuity {
  readonly imapd: Imapd;
  readonly env: Env;
}

/** Joins a client to a far session, and to another one whenever that is lost. Ends as {@link splice} does. */
export function carry(client: Duplex, session: Session, o: CarryOptions): Splice {
  const carrier = new Carrier(client, session, o);
  return { done: carrier.done, close: (reason) => carrier.close(reason) };
}

class Carrier {
  readonly done: Promise<SpliceEnd>;
  readonly #client: Duplex;
  readonly #o: CarryOptions;
  readonly #tap: Tap;
  readonly #ended = deferred<SpliceEnd>();
  readonly #gone = new AbortController();
  #session: Session;
  /** Lost sessions that may still do something. */
  readonly #unproven = new Set<Session>();
  /** The far stream there is; undefined while there is none. */
  #far: Channel['stream'] | undefined;
  #over = false;
  #clientEnded = false;
  #isBlocked = false;
  #silence: Disposable | undefined;
  #patience: Disposable | undefined;
  #watch: Disposable | undefined;
  /** When there was a way to the far side again. */
  #backAt = 0;
  #deaths = 0;
  #isWoken = false;

  constructor(client: Duplex, session: Session, o: CarryOptions) {
    this.#client = client;
    this.#o = o;
    this.#session = session;
    this.done = this.#ended.promise;
    this.#tap = new Tap({ capabilities: session.capabilities, prefix: `P${randomBytes(6).toString('hex')}x` });
    client.on('data', this.#onClient).once('end', this.#onClientEnd);
    client.once('error', () => this.#finish('client')).once('close', () => this.#finish('client'));
    this.#attach(session);
    client.resume();
  }

  close(reason: string): void {
    if (this.#over) return;
    this.#write(this.#tap.close(reason));
    this.#finish('closed');
  }

  #attach(session: Session): void {
    const { stream } = session.channel;
    this.#session = session;
    this.#far = stream;
    let isOver = false;
    const lost = (why: Error | undefined): void => {
      if (isOver || this.#far !== stream) return;
      isOver = true;
      stream.off('data', onData);
      this.#lost(why);
    };
    const onData = (chunk: Buffer): void => this.#onFar(chunk, session.channel);
    stream
      .once('end', () => lost(undefined))
      .once('error', lost)
      .once('close', () => lost(undefined));
    stream.on('data', onData).resume();
  }

  readonly #onClient = (chunk: Buffer): void => {
    this.#act(this.#tap.fromClient(chunk));
    this.#hold();
  };

  #onFar(chunk: Buffer, channel: Channel): void {
    if (this.#silence !== undefined) this.#armSilence();
    const actions = this.#tap.fromFar(chunk);
    if (actions.toClient.length > 0) this.#deaths = 0;
    this.#act(actions);
    if (this.#client.writableLength === 0) channel.release?.(chunk);
    else if (this.#client.writableNeedDrain && this.#far !== undefined) {
      const far = this.#far;
      far.pause();
      this.#client.once('drain', () => this.#over || far.resume());
    }
  }

  #act(actions: TapActions): void {
    if (this.#over) return;
    this.#write(actions);
    if (actions.carried === true) this.#carried();
    if (actions.end !== undefined) this.#finish('lost');
    else if (this.#clientEnded && this.#tap.waiting === 0) this.#far?.end();
  }

  #write({ toClient, toFar }: TapActions): void {
    if (this.#client.writable) for (const bytes of toClient) this.#client.write(bytes);
    const far = this.#far;
    if (far === undefined || !far.writable) return;
    for (const bytes of toFar) far.write(bytes);
    if (!far.writableNeedDrain || this.#isBlocked) return;
    this.#isBlocked = true;
    this.#client.pause();
    const go = (): void => {
      if (this.#far !== far) return;
      this.#isBlocked = false;
      this.#hold();
    };
    far.once('drain', go);
  }

  /** The client is read while there is room for what it says. */
  #hold(): void {
    if (this.#over || this.#client.destroyed) return;
    if (this.#isBlocked || this.#tap.waiting > MAX_WAITING) this.#client.pause();
    else if (this.#client.isPaused()) this.#client.resume();
  }

  /** EOF of the client: what it has asked is still answered, for as long as the far side speaks. */
  readonly #onClientEnd = (): void => {
    this.#clientEnded = true;
    this.#armSilence();
    if (this.#far === undefined) this.#finish('client');
    else if (this.#tap.waiting === 0) this.#far.end();
  };

  #armSilence(): void {
    this.#silence?.[Symbol.dispose]();
    this.#silence = this.#o.env.schedule(HALF_CLOSED_SILENCE_MS, () => this.#finish('client'));
  }

  /** The far session is over. When that is no end in order, another one is opened. */
  #lost(error: Error | undefined): void {
    if (this.#over) return;
    const { imapd, env, patienceMs = PATIENCE_MS } = this.#o;
    if (error === undefined && this.#tap.isLeaving) return void this.#finish('far');
    this.#far = undefined;
    this.#isBlocked = false;
    const reason = reasonOf(error, imapd.host);
    const actions = this.#tap.lost(reason);
    this.#act(actions);
    if (this.#over || actions.end !== undefined) return;
    // A lost link is waited for; a far imapd that dies each time is not.
    if (!(error instanceof LinkError)) this.#deaths++;
    if (this.#clientEnded || this.#deaths > MAX_DEATHS) return void this.#giveUp(reason);
    this.#backAt = env.monotonicNow();
    this.#isWoken = imapd.link.type === 'down';
    this.#watch ??= imapd.watch((state) => {
      if (state.type === 'up') this.#backAt = env.monotonicNow();
      // A channel may end before its link is known to be down: once a death, it is dialled without waiting.
      if (state.type !== 'down' || this.#isWoken) return;
      this.#isWoken = true;
      imapd.wake();
    });
    this.#patience ??= env.schedule(patienceMs, () => this.#giveUp(reason));
    void this.#reopen(this.#session);
  }

  #giveUp(reason: string): void {
    if (this.#over) return;
    this.#write(this.#tap.close(reason));
    this.#finish('lost');
  }

  async #reopen(old: Session): Promise<void> {
    const { signal } = this.#gone;
    if (this.#tap.needsFence) this.#unproven.add(old);
    void old.channel.exit.then(({ type }) => {
      if (type === 'exit' || type === 'signal') this.#unproven.delete(old);
    });
    for (;;) {
      const session = await this.#another();
      if (session === undefined) return;
      for (const one of this.#unproven) {
        if (await this.#o.imapd.fence(one, { signal })) this.#unproven.delete(one);
      }
      const { stream } = session.channel;
      if (this.#over) return session.channel.abort(new Error('the client is gone'));
      // The link was lost again meanwhile.
      if (stream.destroyed || stream.readableEnded) continue;
      const isFenced = this.#unproven.size === 0;
      this.#far = stream;
      const actions = this.#tap.reopened({ capabilities: session.capabilities, isFenced });
      this.#attach(session);
      this.#act(actions);
      return this.#hold();
    }
  }

  /** A new far session, however long that takes; undefined when the client is gone meanwhile, or it is no use to wait. */
  async #another(): Promise<Session | undefined> {
    const { imapd } = this.#o;
    for (let pause = 250; ; pause = Math.min(pause * 2, MAX_REOPEN_PAUSE_MS)) {
      try {
        return (await imapd.take({ signal: this.#gone.signal })).session;
      } catch (error) {
        if (this.#over) return undefined;
        // A host that is gone from the configuration, or has other settings, opens no session here any more.
        const isClosed = error instanceof ImapError && error.code === 'closed';
        if (isClosed || (error instanceof LinkError && error.permanent)) {
          this.#giveUp(error.message);
          return undefined;
        }
        await this.#linkOr(pause);
        if (this.#over) return undefined;
      }
    }
  }

  /** Until the link comes up, or for a while. */
  async #linkOr(ms: number): Promise<void> {
    const up = deferred<void>();
    const stop = new AbortController();
    using _watch = this.#o.imapd.watch((state) => state.type === 'up' && up.resolve());
    const signal = AbortSignal.any([stop.signal, this.#gone.signal]);
    await Promise.race([up.promise, sleep(this.#o.env, ms, signal).catch(() => {})]);
    stop.abort();
  }

  #carried(): void {
    this.#patience?.[Symbol.dispose]();
    this.#patience = undefined;
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
    this.#o.imapd.countCarried(this.#o.env.monotonicNow() - this.#backAt);
  }

  #finish(why: SpliceEnd): void {
    if (this.#over) return;
    this.#over = true;
    const far = this.#far;
    for (const timer of [this.#silence, this.#patience, this.#watch]) timer?.[Symbol.dispose]();
    this.#gone.abort(new Error('the client is gone'));
    this.#client.off('data', this.#onClient).off('end', this.#onClientEnd);
    if (why === 'client') this.#session.channel.abort(new Error('the client is gone'));
    else if (why === 'closed') far?.end();
    void closeGently(this.#client, this.#o.env).then(() => {
      if (why !== 'client') this.#session.channel.abort(new Error('closed'));
      this.#ended.resolve(why);
    });
  }
}

function reasonOf(error: Error | undefined, host: string): string {
  return error === undefined ? `the far imapd on ${host} ended` : lostBecause(error, host);
}
