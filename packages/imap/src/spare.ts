/** A spare session is handed out once, and only while its link stands and its greeting is PREAUTH. */
import type { Env } from '@postern/core';
import { MAX_SPARE_ASIDE } from './limits.ts';
import type { Session } from './session.ts';

/** How long a retired session may take to end by itself, ms. */
const RETIRE_MS = 2000;

/** What a {@link Spare} needs. `onDead` is called at most once, `onOld` when it has waited `lifeMs`. */
export interface SpareOptions {
  readonly session: Session;
  readonly env: Env;
  readonly lifeMs: number;
  readonly onDead: (reason: string) => void;
  readonly onOld: () => void;
}

/** A session that waits for a login. It is read all the while, so that its end is noticed and its words are kept for the client. */
export class Spare {
  readonly #o: SpareOptions;
  readonly #openedAt: number;
  readonly #timer: Disposable;
  #aside: Buffer = Buffer.alloc(0);
  #old = false;
  #over = false;

  constructor(o: SpareOptions) {
    this.#o = o;
    this.#openedAt = o.env.monotonicNow();
    this.#timer = o.env.schedule(o.lifeMs, () => {
      this.#old = true;
      o.onOld();
    });
    const { stream } = o.session.channel;
    stream.on('data', this.#onData).once('end', this.#onEnd).once('close', this.#onEnd);
    stream.resume();
  }

  /** Milliseconds since it was opened. */
  get ageMs(): number {
    return this.#o.env.monotonicNow() - this.#openedAt;
  }

  /** It waited long enough to be replaced; it can still be taken until then. */
  get old(): boolean {
    return this.#old;
  }

  /** It has not ended, as far as can be seen from here. */
  get usable(): boolean {
    const { stream } = this.#o.session.channel;
    return !this.#over && !stream.destroyed && !stream.readableEnded && stream.writable;
  }

  /** Gives the session away, paused, with what it said meanwhile still to be read. */
  release(): Session {
    this.#stop();
    const { stream } = this.#o.session.channel;
    stream.pause();
    if (this.#aside.length > 0) stream.unshift(this.#aside);
    return this.#o.session;
  }

  /** Ends it in order: LOGOUT and EOF, and after a moment an abort. Resolves when it has ended. */
  async retire(): Promise<void> {
    this.#stop();
    const { channel } = this.#o.session;
    channel.stream.resume();
    if (channel.stream.writable) channel.stream.end('postern LOGOUT\r\n');
    const timer = this.#o.env.schedule(RETIRE_MS, () => channel.abort(new Error('a spare did not end')));
    await channel.exit;
    timer[Symbol.dispose]();
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#aside = Buffer.concat([this.#aside, chunk]);
    const bye = /(?:^|\n)(\* BYE[^\r\n]*)/i.exec(this.#aside.toString('latin1'))?.[1];
    if (bye !== undefined) this.#die(bye);
    else if (this.#aside.length > MAX_SPARE_ASIDE) this.#die('it talks without end');
  };

  readonly #onEnd = (): void => this.#die(this.#o.session.channel.stream.errored?.message ?? 'it ended');

  #die(reason: string): void {
    if (this.#over) return;
    void this.retire();
    this.#o.onDead(reason);
  }

  #stop(): void {
    this.#over = true;
    this.#timer[Symbol.dispose]();
    this.#o.session.channel.stream.off('data', this.#onData).off('end', this.#onEnd).off('close', this.#onEnd);
  }
}
