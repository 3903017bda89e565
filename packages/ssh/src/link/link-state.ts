/** What a link shows of itself, and the errors of its own making. */
import { type Env, LinkError, type LinkState } from '@postern/core';
import type { Phase } from './link-machine.ts';

/** A phase as {@link LinkState} shows it. */
export function publicState(phase: Phase, env: Env): LinkState {
  switch (phase.type) {
    case 'idle':
    case 'closed':
      return { type: 'idle' };
    case 'dialling':
      return { type: 'dialling', attempt: phase.attempt };
    case 'up':
      return { type: 'up' };
    case 'down': {
      const retryAt = phase.retryInMs === undefined ? {} : { retryAt: env.wallNow() + phase.retryInMs };
      return { type: 'down', error: phase.error, ...retryAt };
    }
  }
}

/** What those who wait on a link are told when it is closed. */
export function closedError(host: string): LinkError {
  return new LinkError(`the link to ${host} was closed`, { code: 'aborted', layer: 'channel' });
}

/** What a dial failed with, as a `LinkError`. */
export function asLinkError(error: unknown, host: string): LinkError {
  if (error instanceof LinkError) return error;
  const text = error instanceof Error ? error.message : String(error);
  return new LinkError(`dialling ${host} failed: ${text}`, { code: 'unreachable', layer: 'tcp', cause: error });
}
