/** One entry, one thing at a time: work on it is done in the order it came, whoever brings it. */
import type { EntryId, Env } from '@postern/core';

/** Work on entries: one after the other for each of them, and what is to be done again later. */
export class PerEntry {
  readonly #env: Env;
  readonly #tails = new Map<EntryId, Promise<void>>();
  readonly #timers = new Set<Disposable>();
  readonly #tracked = new Set<Promise<void>>();
  closed = false;

  constructor(env: Env) {
    this.#env = env;
  }

  /** Runs `work` when all earlier work on this entry has settled: its deliveries may end at the same time. */
  run(id: EntryId, work: () => Promise<void>): Promise<void> {
    const done = (this.#tails.get(id) ?? Promise.resolve()).then(work);
    const quiet = done
      .catch(() => {})
      .then(() => {
        if (this.#tails.get(id) === quiet) this.#tails.delete(id);
      });
    this.#tails.set(id, quiet);
    return done;
  }

  /** Runs `work`, which must not reject, after `waitMs`. */
  later(waitMs: number, work: () => Promise<void>): void {
    if (this.closed) return;
    const timer = this.#env.schedule(waitMs, () => {
      this.#timers.delete(timer);
      this.track(work());
    });
    this.#timers.add(timer);
  }

  /** Lets {@link idle} wait for `work`, which must not reject. */
  track(work: Promise<void>): void {
    const tracked = work.finally(() => this.#tracked.delete(tracked));
    this.#tracked.add(tracked);
  }

  /** Resolves when nothing is being done; what is to be done later is not waited for. */
  async idle(): Promise<void> {
    while (this.#tails.size + this.#tracked.size > 0) await Promise.all([...this.#tails.values(), ...this.#tracked]);
  }

  /** Forgets what was to be done later. */
  close(): void {
    this.closed = true;
    for (const timer of this.#timers) timer[Symbol.dispose]();
  }
}
