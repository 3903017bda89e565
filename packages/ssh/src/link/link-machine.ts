/**
 * Everything a link's state depends on is in this table: `step` takes where it stands and what happened, and says where it
 * stands now. Timers, dials and files belong to `link.ts`, which does what the new phase asks for.
 */
import type { LinkError, WakeReason } from '@postern/core';

export type Phase =
  | { readonly type: 'idle' }
  /** `attempt` counts from 1. A new `dial` number means: drop the dial in flight and start another. */
  | { readonly type: 'dialling'; readonly attempt: number; readonly dial: number }
  /** `attempt` is kept: a connection that does not stand long counts as a failed attempt. */
  | { readonly type: 'up'; readonly attempt: number; readonly dial: number }
  /** `retryInMs` is absent when only a wake or a change of files helps. */
  | {
      readonly type: 'down';
      readonly attempt: number;
      readonly dial: number;
      readonly error: LinkError;
      readonly retryInMs?: number;
    }
  | { readonly type: 'closed' };

export type LinkInput =
  /** Somebody asks for a channel. */
  | { readonly type: 'wanted' }
  | { readonly type: 'dialled' }
  | { readonly type: 'failed'; readonly error: LinkError }
  /** The last connection ended after `stoodMs`. */
  | { readonly type: 'lost'; readonly error: LinkError; readonly stoodMs: number }
  /** `retryInMs` has passed. */
  | { readonly type: 'due' }
  | { readonly type: 'wake'; readonly why: WakeReason }
  /** A file the failure depends on (known_hosts, key, agent) has changed. */
  | { readonly type: 'changed' }
  /** The host's settings are others now; the connections there are serve what runs on them and nothing new. */
  | { readonly type: 'redirected' }
  | { readonly type: 'close' };

/** First and longest span of the redial back-off, ms; the wait is drawn evenly from [0, span). */
export const BACKOFF_FIRST_MS = 1_000;
export const BACKOFF_LONGEST_MS = 60_000;
/** How long an authentication failure rests, ms: more often would look like an attack, and sshd may bar us. */
export const AUTH_RETRY_MS = 600_000;
/** A connection that stood this long was a good one, ms: the next failure is a first. */
export const STABLE_MS = 10_000;

/** The next phase. The same object back means: nothing changes. `random` is a number in [0, 1). */
export function step(phase: Phase, event: LinkInput, random: number): Phase {
  if (phase.type === 'closed' || event.type === 'close') return { type: 'closed' };
  switch (event.type) {
    case 'wanted':
      return phase.type === 'idle' ? dialling(1, 1) : phase;
    case 'dialled':
      return phase.type === 'dialling' ? { ...phase, type: 'up' } : phase;
    case 'failed':
      return phase.type === 'dialling' ? down(phase, event.error, random) : phase;
    case 'lost':
      if (phase.type !== 'up') return phase;
      return down(event.stoodMs < STABLE_MS ? phase : { ...phase, attempt: 1 }, event.error, random);
    case 'due':
      return phase.type === 'down' ? dialling(phase.attempt + 1, phase.dial + 1) : phase;
    case 'changed':
      return phase.type === 'down' ? dialling(1, phase.dial + 1) : phase;
    case 'redirected':
      return phase.type === 'idle' ? phase : dialling(1, phase.dial + 1);
    case 'wake':
      return wake(phase, event.why);
  }
}

function wake(phase: Exclude<Phase, { type: 'closed' }>, why: WakeReason): Phase {
  switch (phase.type) {
    case 'idle':
      return why === 'network' || why === 'reload' ? phase : dialling(1, 1);
    case 'dialling':
      // A dial begun on the old network would wait for its timeout.
      return why === 'network' ? dialling(1, phase.dial + 1) : { ...phase, attempt: 1 };
    case 'down':
      return wakeHelps(phase.error, why) ? dialling(1, phase.dial + 1) : phase;
    case 'up':
      return phase;
  }
}

/** A host key fault waits for known_hosts or the configuration; a refused key also for somebody who asks again. */
function wakeHelps(error: LinkError, why: WakeReason): boolean {
  if (!error.permanent || why === 'reload') return true;
  return error.code === 'auth-failed' && why !== 'network';
}

function dialling(attempt: number, dial: number): Phase {
  return { type: 'dialling', attempt, dial };
}

function down(from: { attempt: number; dial: number }, error: LinkError, random: number): Phase {
  const retryInMs = retryDelay(error, from.attempt, random);
  const { attempt, dial } = from;
  return { type: 'down', attempt, dial, error, ...(retryInMs === undefined ? {} : { retryInMs }) };
}

function retryDelay(error: LinkError, attempt: number, random: number): number | undefined {
  if (error.code === 'auth-failed') return AUTH_RETRY_MS;
  if (error.permanent) return undefined;
  return random * Math.min(BACKOFF_LONGEST_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt - 1, 16));
}
