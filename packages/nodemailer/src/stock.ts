import type { Courier, Entry, EntryId, Env, ForwardPath, Outcome } from '@postern/core';
import { TransportError } from './errors.ts';

/** How long a session is kept for the next message, milliseconds. */
export const IDLE_MS = 2_000;

/** The outcome of every recipient of one entry. */
export type Outcomes = ReadonlyMap<ForwardPath, Outcome>;

interface Order {
  readonly entry: Entry;
  readonly outcomes: Map<ForwardPath, Outcome>;
  resolve(outcomes: Outcomes): void;
  reject(error: unknown): void;
}

/**
 * Feeds one courier: messages that are sent at the same time share its session, and it is kept for {@link IDLE_MS} after the last.
 */
export class Stock {
  readonly #courier: Courier;
  readonly #env: Env;
  readonly #waiting: Order[] = [];
  readonly #taken = new Map<EntryId, Order>();
  readonly #closed = new AbortController();
  #running: Promise<void> | undefined;
  #wake: () => void = () => {};

  constructor(courier: Courier, env: Env) {
    this.#courier = courier;
    this.#env = env;
  }

  /** Nothing is waiting or being sent. */
  get idle(): boolean {
    return this.#waiting.length + this.#taken.size === 0;
  }

  /**
   * Sends an entry. Resolves with an outcome per recipient; rejects with what the courier rejects with, and then nothing of it was sent.
   * An abort takes it back when it was not begun, else only ends the waiting.
   */
  send(entry: Entry, signal: AbortSignal | undefined): Promise<Outcomes> {
    return new Promise((resolve, reject) => {
      const gone = this.#closed.signal.aborted ? this.#closed.signal : signal;
      if (gone?.aborted) return reject(aborted(gone.reason));
      const onAbort = (): void => {
        const at = this.#waiting.indexOf(order);
        if (at >= 0) this.#waiting.splice(at, 1);
        order.reject(aborted(signal?.reason));
      };
      const settled = (): void => signal?.removeEventListener('abort', onAbort);
      const order: Order = {
        entry,
        outcomes: new Map(),
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
    for (const order of this.#waiting.splice(0)) order.reject(aborted(this.#closed.signal.reason));
    this.#wake();
    await this.#running;
  }

  async #run(): Promise<void> {
    try {
      await this.#courier(this.#batch(), {
        signal: this.#closed.signal,
        attempting: () => Promise.resolve(),
        outcome: (id, to, outcome) => {
          this.#settle(id, to, outcome);
          return Promise.resolve();
        },
      });
      this.#drop(new TransportError('the session ended before the message was sent', { code: 'deferred' }));
    } catch (error) {
      for (const order of this.#waiting.splice(0)) order.reject(error);
      this.#drop(error);
    } finally {
      this.#running = this.#waiting.length > 0 ? this.#run() : undefined;
    }
  }

  #settle(id: EntryId, to: ForwardPath, outcome: Outcome): void {
    const order = this.#taken.get(id);
    if (order === undefined) return;
    order.outcomes.set(to, outcome);
    if (order.outcomes.size < order.entry.envelope.recipients.length) return;
    this.#taken.delete(id);
    order.resolve(order.outcomes);
  }

  #drop(error: unknown): void {
    for (const order of this.#taken.values()) order.reject(error);
    this.#taken.clear();
  }

  async *#batch(): AsyncGenerator<Entry> {
    for (;;) {
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
      const timer = this.#env.schedule(IDLE_MS, () => this.#wake());
      this.#wake = () => {
        timer[Symbol.dispose]();
        this.#wake = () => {};
        resolve(this.#waiting.length > 0);
      };
    });
  }
}

function aborted(reason: unknown): TransportError {
  const why = reason instanceof Error ? reason.message : 'aborted';
  return new TransportError(`not sent: ${why}`, { code: 'aborted', cause: reason });
}
