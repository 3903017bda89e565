/** A channel as the socket that ImapFlow expects: it ends as a socket does, and a lost link is an error. */
import { Duplex } from 'node:stream';
import type { Channel, Env } from '@postern/core';
import type { Session } from '@postern/imap';

/** How long a far session may take to end by itself after it was let go, ms. */
const END_MS = 2000;

/**
 * A far session as ImapFlow wants its socket: the greeting first, then what the channel carries, with the watchdog of
 * `net.Socket`. Destroyed with the `LinkError` when the link is lost.
 */
export class SessionSocket extends Duplex {
  readonly #channel: Channel;
  readonly #env: Env;
  #timeoutMs = 0;
  #active: number;
  #timer: Disposable | undefined;

  constructor(session: Session, env: Env) {
    super({ allowHalfOpen: true });
    this.#channel = session.channel;
    this.#env = env;
    this.#active = env.monotonicNow();
    // ImapFlow takes its own listener away when it closes, and errors may come later.
    this.on('error', () => {});
    const { stream } = this.#channel;
    stream.unshift(session.greeting);
    stream.on('data', (chunk: Buffer) => {
      this.#touch();
      if (!this.push(chunk)) stream.pause();
    });
    stream.once('end', () => this.push(null));
    stream.once('error', (error) => this.destroy(error));
    stream.once('close', () => {
      if (!stream.readableEnded) this.destroy(stream.errored ?? new Error('the far side is gone'));
    });
    stream.pause();
  }

  /** As `net.Socket`: emits `timeout` after `ms` without traffic; 0 never does. */
  setTimeout(ms: number): this {
    this.#timeoutMs = ms;
    this.#touch();
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
    if (ms > 0 && !this.destroyed) this.#arm(ms);
    return this;
  }

  override _read(): void {
    this.#channel.stream.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#touch();
    this.#channel.stream.write(chunk, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#channel.stream.end(() => done());
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#timer?.[Symbol.dispose]();
    if (error === null) this.#letGo();
    else this.#channel.abort(error);
    done(error);
  }

  /** EOF, and an abort when the far side does not end upon it. */
  #letGo(): void {
    const { stream, exit } = this.#channel;
    stream.removeAllListeners('data');
    stream.resume();
    if (stream.writable) stream.end();
    const timer = this.#env.schedule(END_MS, () => this.#channel.abort(new Error('closed')));
    void exit.then(() => timer[Symbol.dispose]());
  }

  #touch(): void {
    this.#active = this.#env.monotonicNow();
  }

  /** One timer at a time; traffic only notes the time. */
  #arm(ms: number): void {
    this.#timer = this.#env.schedule(ms, () => {
      const quiet = this.#env.monotonicNow() - this.#active;
      if (quiet < this.#timeoutMs) return this.#arm(this.#timeoutMs - quiet);
      this.#arm(this.#timeoutMs);
      this.emit('timeout');
    });
  }
}
