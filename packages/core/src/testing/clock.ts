/** Time that moves only when told, so that a test of days takes milliseconds and comes out the same each time. */
import { type Env, seededRandom } from '../env.ts';

/** A clock that moves only when told, and a seeded generator. */
export interface VirtualEnv extends Env {
  /** Moves both clocks forward, running due timers in order, letting promises settle between them. */
  advance(ms: number): Promise<void>;
  /** Moves to the next timer and runs it; false when there is none. */
  step(): Promise<boolean>;
  /**
   * Moves both clocks forward without running a timer, as when the process is stopped: they come late at the next
   * `advance`.
   */
  leap(ms: number): void;
  /** Sets the wall clock off by `ms`, the monotonic one not. */
  jumpWall(ms: number): void;
  /** How many timers are armed. */
  readonly pending: number;
}

/** Lets every promise and I/O callback that is ready run. */
export async function settle(): Promise<void> {
  for (let round = 0; round < 5; round++) await new Promise<void>((resolve) => setImmediate(resolve));
}

/** Makes a {@link VirtualEnv} at wall-clock `startMs`. */
export function virtualEnv(o: { seed?: number; startMs?: number } = {}): VirtualEnv {
  type Timer = { readonly at: number; readonly order: number; readonly run: () => void };
  const timers = new Set<Timer>();
  const random = seededRandom(o.seed ?? 1);
  let now = 0;
  let wallOffset = o.startMs ?? Date.UTC(2026, 0, 1);
  let order = 0;
  const next = (): Timer | undefined => [...timers].sort((a, b) => a.at - b.at || a.order - b.order)[0];
  const fire = async (timer: Timer): Promise<void> => {
    timers.delete(timer);
    now = Math.max(now, timer.at);
    timer.run();
    await settle();
  };
  return {
    wallNow: () => wallOffset + now,
    monotonicNow: () => now,
    random,
    schedule(delayMs, run) {
      const timer: Timer = { at: now + Math.max(0, delayMs), order: order++, run };
      timers.add(timer);
      return { [Symbol.dispose]: () => void timers.delete(timer) };
    },
    async advance(ms) {
      const end = now + ms;
      await settle();
      for (let timer = next(); timer !== undefined && timer.at <= end; timer = next()) await fire(timer);
      now = end;
    },
    async step() {
      await settle();
      const timer = next();
      if (timer !== undefined) await fire(timer);
      return timer !== undefined;
    },
    leap(ms) {
      now += ms;
    },
    jumpWall(ms) {
      wallOffset += ms;
    },
    get pending() {
      return timers.size;
    },
  };
}
