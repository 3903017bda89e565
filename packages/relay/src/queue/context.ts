import { type EntryState, type Env, type ForwardPath, type JournalRecord, SpoolError } from '@postern/core';
import type { OnRelayEvent } from '../event.ts';
import type { Item, Lane } from './destination.ts';
import type { RunnerOptions } from './runner.ts';
import type { Schedule } from './schedule.ts';

/** Wait before what the spool refused to record is tried again, ms. */
export const SPOOL_RETRY_MS = 60_000;

/** What the parts of a queue runner share. */
export interface QueueContext extends Pick<RunnerOptions, 'spool' | 'routes' | 'courierFor' | 'env'> {
  readonly schedule: Schedule;
  readonly onEvent: OnRelayEvent;
}

/** Recipients still to be tried. */
export function openRecipients(state: EntryState): ForwardPath[] {
  return state.recipients
    .filter(({ outcome }) => outcome === undefined || outcome.type === 'deferred' || outcome.type === 'uncertain')
    .map(({ to }) => to);
}

/** The record of an item that is due again in `waitMs`. */
export function nextTry(
  env: Env,
  { lane, item }: { lane: Lane; item: Item },
  o: { waitMs: number; reason: string },
): JournalRecord {
  const at = env.wallNow();
  return { type: 'next', at, due: at + o.waitMs, reason: o.reason, elapsed: Math.round(lane.elapsed(item)) };
}

/** The entry was removed meanwhile: nobody wants to hear of it. */
export function isGone(error: unknown): boolean {
  return error instanceof SpoolError && error.code === 'gone';
}

/** Entries looked at before other work gets its turn: there may be a hundred thousand. */
export const BATCH = 512;

/** Lets other work have its turn. */
export function otherWork(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
