/**
 * Time and randomness, as an argument. Schedules, timeouts and back-off take an `Env`, so they run on a virtual clock in
 * tests; only `postern` and the examples pass `systemEnv`.
 */
export interface Env {
  /** Wall clock, milliseconds since the Unix epoch. May jump; use it only for what is shown or persisted. */
  wallNow(): number;
  /** Monotonic clock, milliseconds since an arbitrary start. Use it for every duration. */
  monotonicNow(): number;
  /**
   * Runs `run` once after `delayMs` (monotonic). Disposing cancels; disposing late is harmless. With `keepsAlive` the process does not
   * end before: for a wait that somebody awaits, when nothing else may be open.
   */
  schedule(delayMs: number, run: () => void, o?: { readonly keepsAlive?: boolean }): Disposable;
  /** A number in [0, 1), as `Math.random`. Not for secrets. */
  random(): number;
}

/** Node clamps longer timers to 1 ms, so long waits are split (`setTimeout` takes a signed 32-bit count). */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The real clock and `Math.random`. Timers keep the process alive only when asked to. */
export const systemEnv: Env = {
  wallNow: () => Date.now(),
  monotonicNow: () => performance.now(),
  schedule(delayMs, run, o) {
    let timer: NodeJS.Timeout;
    const arm = (leftMs: number): void => {
      const step = Math.min(Math.max(leftMs, 0), LONGEST_TIMER_MS);
      timer = setTimeout(() => (leftMs > step ? arm(leftMs - step) : run()), step);
      if (o?.keepsAlive !== true) timer.unref();
    };
    arm(delayMs);
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
  random: () => Math.random(),
};

/** Resolves after `ms` milliseconds. Rejects with `signal.reason` when the signal aborts first. Keeps the process alive meanwhile. */
export function sleep(env: Env, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const onAbort = (): void => {
      timer[Symbol.dispose]();
      reject(signal.reason);
    };
    const awake = (): void => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    };
    const timer = env.schedule(ms, awake, { keepsAlive: true });
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

/** An abort signal with a lifetime: dispose it when the guarded work has ended, so that its timer and listeners go. */
export interface Deadline extends Disposable {
  readonly signal: AbortSignal;
}

/** A signal that aborts with `reason()` after `ms`, or with the parent's reason when `parent` aborts first. Keeps the process alive until disposed. */
export function deadline(env: Env, ms: number, o: { parent?: AbortSignal; reason: () => Error }): Deadline {
  const controller = new AbortController();
  const onParent = (): void => controller.abort(o.parent?.reason);
  if (o.parent?.aborted) onParent();
  o.parent?.addEventListener('abort', onParent, { once: true });
  const timer = env.schedule(ms, () => controller.abort(o.reason()), { keepsAlive: true });
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      timer[Symbol.dispose]();
      o.parent?.removeEventListener('abort', onParent);
    },
  };
}

/**
 * Settles as `promise` does, or rejects with `signal.reason` as soon as the signal aborts. What `promise` yields after
 * that is handed to `late` (to close it), and its rejection is swallowed.
 */
export function raceAbort<T>(promise: Promise<T>, signal: AbortSignal, late?: (value: T) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    let done = false;
    const onAbort = (): void => {
      done = true;
      reject(signal.reason);
    };
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    promise.then(
      (value) => {
        if (done) return late?.(value);
        signal.removeEventListener('abort', onAbort);
        resolve(value);
      },
      (error) => {
        signal.removeEventListener('abort', onAbort);
        if (!done) reject(error);
      },
    );
  });
}

/** A promise with its handles outside, for events that end a wait. (`Promise.withResolvers` is missing on Node 20.) */
export interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

/** Makes a {@link Deferred}. */
export function deferred<T>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

/** A small seeded generator (mulberry32) for an `Env` that can be repeated: numbers in [0, 1). Not for secrets. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
