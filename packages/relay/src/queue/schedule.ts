/**
 * When what is tried: waits grow with each deferral and stop growing; queue life ends after days, and counts reachable
 * time alone.
 */

/** When what is tried. Times in milliseconds. */
export interface Schedule {
  /** Wait after the first deferral; doubles with each one. */
  readonly firstRetryMs: number;
  readonly longestRetryMs: number;
  /** Queue life at which a message is given up. Counts only while its host is reachable. */
  readonly expireMs: number;
  /** Queue life at which the sender hears of the delay. */
  readonly delayNoticeMs: number;
  /** Uncertain attempts after which an entry is held. */
  readonly holdAfterUncertain: number;
  /** Deliveries at once to one host. */
  readonly concurrency: number;
  /** A delivery busy with one entry for so long lets another start beside it. */
  readonly stallMs: number;
}

const MINUTE = 60_000;

/** Back-off 1 min doubling to 15 min, notice after 4 h, expiry after 5 d. */
export const DEFAULT_SCHEDULE: Schedule = {
  firstRetryMs: MINUTE,
  longestRetryMs: 15 * MINUTE,
  expireMs: 5 * 24 * 60 * MINUTE,
  delayNoticeMs: 4 * 60 * MINUTE,
  holdAfterUncertain: 3,
  concurrency: 2,
  stallMs: 5_000,
};

/** Wait after the `count`th deferral in a row, from 1. */
export function backoff(schedule: Schedule, count: number): number {
  return Math.min(schedule.longestRetryMs, schedule.firstRetryMs * 2 ** Math.min(Math.max(0, count - 1), 30));
}
