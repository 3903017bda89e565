/** Silence is answered by a question; only a question without an answer ends a connection. */
import { type Env, LinkError } from '@postern/core';

/** Silence after an unanswered question that means the far side is gone, in intervals. */
const SILENT_INTERVALS = 1.9;
/** A tick this late was not held up by work, ms. */
const LATE_TICK_MS = 1_000;

/** How a connection keeps itself informed. */
export interface LivenessOptions {
  readonly env: Env;
  /** Silence after which the far side is asked for a sign of life, ms. */
  readonly intervalMs: number;
  /** Asks; `answered` gets an Error when the connection ended first, anything else is a sign of life. */
  readonly ask: (answered: (reply: unknown) => void) => void;
  /** The far side is gone; `silentMs` since its last byte. */
  readonly onSilent: (silentMs: number) => void;
  /** Called at least once an interval. */
  readonly onTick?: () => void;
}

/**
 * Knows whether the far side lives. After an interval without a byte it is asked for one; silent for almost two more, it is
 * gone. With 5 s: after 14.5 s at most, and no stall under 9.5 s is taken for it.
 */
export class Liveness {
  readonly #o: LivenessOptions;
  #rttMs: number | undefined;
  #leastRttMs: number | undefined;
  /** When the last byte came, monotonic ms. */
  #heard: number;
  /** When the question in flight was asked, monotonic ms. */
  #asked: number | undefined;
  #timer: Disposable | undefined;
  /** When the next tick should come, monotonic ms. */
  #due = Number.POSITIVE_INFINITY;
  #stopped: Error | undefined;

  constructor(o: LivenessOptions) {
    this.#o = o;
    this.#heard = o.env.monotonicNow();
    this.probe().catch(() => {});
    this.#tick();
  }

  /** The last round trip measured, ms. */
  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  /** The least round trip measured, ms: that of the line, without what waited in buffers. */
  get leastRttMs(): number | undefined {
    return this.#leastRttMs;
  }

  /** When the last byte came, monotonic ms. */
  get heardAt(): number {
    return this.#heard;
  }

  /** A byte came. */
  heard(): void {
    this.#heard = this.#o.env.monotonicNow();
  }

  /** Asks now; resolves with the round trip, ms. Rejects when the connection ends first. */
  probe(): Promise<number> {
    const { env, ask } = this.#o;
    const sent = env.monotonicNow();
    this.#asked ??= sent;
    return new Promise((resolve, reject) => {
      ask((reply) => {
        if (reply instanceof Error) {
          reject(this.#stopped ?? new LinkError('the connection ended', { code: 'lost', layer: 'tcp', cause: reply }));
          return;
        }
        this.#asked = undefined;
        this.#rttMs = env.monotonicNow() - sent;
        this.#leastRttMs = Math.min(this.#rttMs, this.#leastRttMs ?? this.#rttMs);
        resolve(this.#rttMs);
      });
    });
  }

  /** No more ticks. */
  stop(reason: Error): void {
    this.#stopped = reason;
    this.#timer?.[Symbol.dispose]();
  }

  #tick(): void {
    const { env, intervalMs, onSilent, onTick } = this.#o;
    const now = env.monotonicNow();
    // A late tick means this side slept (suspend, SIGSTOP): the answer may lie unread in the socket, so ask afresh.
    if (this.#asked !== undefined && now - this.#due > LATE_TICK_MS) this.#asked = now;
    const askedFor = this.#asked === undefined ? 0 : now - Math.max(this.#asked, this.#heard);
    const quiet = now - this.#heard;
    if (askedFor >= intervalMs * SILENT_INTERVALS) {
      onSilent(quiet);
      return;
    }
    if (quiet >= intervalMs && this.#asked === undefined) this.probe().catch(() => {});
    onTick?.();
    const left = this.#asked === undefined ? intervalMs - quiet : intervalMs * SILENT_INTERVALS - askedFor;
    const next = Math.min(Math.max(left, 1), intervalMs);
    this.#due = now + next;
    this.#timer = env.schedule(next, () => {
      if (this.#stopped === undefined) this.#tick();
    });
  }
}
