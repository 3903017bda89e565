/** A wait in which no octet moves ends when its time is up, and not before. */
import type { Env } from '@postern/core';

/** Ends a wait in which no byte moved either way for too long. */
export class Watchdog implements Disposable {
  readonly #env: Env;
  readonly #limit: () => number | undefined;
  readonly #expired: (limitMs: number) => void;
  #timer: Disposable | undefined;
  #progressAt: number;
  #disposed = false;

  /** `limit`: how long may it be silent now, milliseconds; undefined when nothing is awaited. `expired` is called at most once. */
  constructor(env: Env, o: { limit: () => number | undefined; expired: (limitMs: number) => void }) {
    this.#env = env;
    this.#limit = o.limit;
    this.#expired = o.expired;
    this.#progressAt = env.monotonicNow();
    this.#arm();
  }

  /** How long no byte has moved, ms. */
  get quietMs(): number {
    return this.#env.monotonicNow() - this.#progressAt;
  }

  /** A byte moved, or something new is awaited. */
  progress(): void {
    this.#progressAt = this.#env.monotonicNow();
    if (this.#timer === undefined) this.#arm();
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#timer?.[Symbol.dispose]();
  }

  /** One timer at a time; it looks at the clock again when it fires. */
  #arm(): void {
    this.#timer = undefined;
    const limit = this.#limit();
    if (limit === undefined || this.#disposed) return;
    const left = limit - (this.#env.monotonicNow() - this.#progressAt);
    if (left <= 0) this.#expired(limit);
    else this.#timer = this.#env.schedule(left, () => this.#arm());
  }
}
