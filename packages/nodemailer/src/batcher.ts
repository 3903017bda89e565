/** Messages that are sent at the same time share one session, and it is kept for a moment after the last. */
import type { Courier, Entry, EntryId, Env, ForwardPath, Outcome } from '@postern/core';
import { aborted, TransportError } from './errors.ts';

/** How long a session is kept for the next message, milliseconds. */
export const IDLE_MS = 2_000;

/** The outcome of every recipient of one entry. */
export type Outcomes = ReadonlyMap<ForwardPath, Outcome>;

interface Order {
  readonly entry: Entry;
  readonly outcomes: Map<ForwardPath, Outcome>;
  /** Its last byte may have left. */
  begun: boolean;
  resolve(outcomes: Outcomes): void;
  reject(error: unknown): void;
  /** Nothing will read the entry any more. */
  done(): void;
}

/** What a {@link Batcher} sends with. */
export interface BatcherOptions {
  readonly courier: Courier;
  readonly env: Env;
}

/** Feeds one courier; its session is kept for {@link IDLE_MS} after the last message. */
export class Batcher {
  readonly #o: BatcherOptions;
  readonly #waiting: Order[] = [];
  readonly #taken = new Map<EntryId, Order>();
  readonly #closed = new AbortController();
  #running: Promise<void> | undefined;
  #wake: () => void = () => {};

  constructor(o: BatcherOptions) {
    this.#o = o;
  }

  /** Nothing is waiting or being sent. */
  get idle(): boolean {
    return this.#waiting.length + this.#taken.size === 0;
  }

  /**
   * Sends an entry. Resolves with an outcome per recipient; rejects with what the courier rejects with, and then
   * nothing of it was sent. An abort takes it back when it was not begun, else only ends the waiting: `done` is called
   * once the entry is read no more.
   */
  send(entry: Entry, { signal, done }: { signal?: AbortSignal | undefined; done: () => void }): Promise<Outcomes> {
    return new Promise((resolve, reject) => {
      const gone = this.#closed.signal.aborted ? this.#closed.signal : signal;
      if (gone?.aborted) {
        done();
        return reject(aborted(gone.reason));
      }
      const onAbort = (): void => {
        order.reject(aborted(signal?.reason));
        const at = this.#waiting.indexOf(order);
        if (at < 0) return;
        this.#waiting.splice(at, 1);
        done();
      };
      const settled = (): void => signal?.removeEventListener('abort', onAbort);
      const order: Order = {
        entry,
        done,
        outcomes: new Map(),
        begun: false,
        resolve(outcomes) {
          settled();
          resolve(outcomes);
        },
        reject(error) {
          settled();
          reject(error);
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(order);
      this.#wake();
      this.#running ??= this.#run();
    });
  }

  /** Refuses what waits, ends the session, and resolves when the courier has settled. */
  async close(): Promise<void> {
    this.#closed.abort(new Error('the transport was closed'));
    this.#refuse(aborted(this.#closed.signal.reason));
    this.#wake();
    await this.#running;
  }

  async #run(): Promise<void> {
    const run = { over: false, outcomes: 0 };
    let error: unknown = new TransportError('the session ended before the message was sent', { code: 'deferred' });
    try {
      await this.#o.courier(this.#batch(run), {
        signal: this.#closed.signal,
        attempting: (id) => {
          const order = this.#taken.get(id);
          if (order !== undefined) order.begun = true;
          return Promise.resolve();
        },
        outcome: (id, to, outcome) => {
          run.outcomes += 1;
          this.#settle(id, to, outcome);
          return Promise.resolve();
        },
      });
    } catch (cause) {
      error = cause;
      if (run.outcomes === 0) this.#refuse(cause);
    }
    // A courier that has ended does not wait for the batch to hear of it: what comes now is for the next one.
    run.over = true;
    this.#wake();
    this.#drop(error, { again: run.outcomes > 0 && !this.#closed.signal.aborted });
    this.#running = this.#waiting.length > 0 ? this.#run() : undefined;
  }

  #settle(id: EntryId, to: ForwardPath, outcome: Outcome): void {
    const order = this.#taken.get(id);
    if (order === undefined) return;
    order.outcomes.set(to, outcome);
    if (order.outcomes.size < order.entry.envelope.recipients.length) return;
    this.#taken.delete(id);
    order.resolve(order.outcomes);
    order.done();
  }

  #refuse(error: unknown): void {
    for (const order of this.#waiting.splice(0)) {
      order.reject(error);
      order.done();
    }
  }

  /** What a session leaves behind. With `again`, what was not begun waits for the next one. */
  #drop(error: unknown, { again }: { again: boolean }): void {
    const left = [...this.#taken.values()];
    this.#taken.clear();
    this.#waiting.unshift(...left.filter(({ begun }) => again && !begun));
    for (const order of left) {
      if (again && !order.begun) continue;
      order.reject(error);
      order.done();
    }
  }

  async *#batch(run: { readonly over: boolean }): AsyncGenerator<Entry> {
    for (;;) {
      if (run.over) return;
      const order = this.#waiting.shift();
      if (order !== undefined) {
        this.#taken.set(order.entry.id, order);
        yield order.entry;
        continue;
      }
      if (this.#closed.signal.aborted || !(await this.#another())) return;
    }
  }

  /** Waits for another message; false when none came in time. */
  #another(): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = this.#o.env.schedule(IDLE_MS, () => this.#wake());
      this.#wake = () => {
        timer[Symbol.dispose]();
        this.#wake = () => {};
        resolve(this.#waiting.length > 0);
      };
    });
  }
}
