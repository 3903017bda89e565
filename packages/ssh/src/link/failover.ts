/** A silent connection is replaced when another one was made beside it, and believed again when it answers first. */
import { type Env, LinkError, sleep } from '@postern/core';
import type { Connection } from '../connection.ts';

/** How long a connection may take to show that it lives before another is dialled beside it, ms. */
const PROBE_MS = 1_500;
/** Longest wait for the other one's TCP connection, ms: the network may have become usable since its first packet. */
export const FAILOVER_CONNECT_MS = 3_000;
/** Longest wait between dials of the other one, ms. */
const REDIAL_MS = 1_000;

/** What {@link failover} works with. */
export interface ReplaceOptions {
  readonly env: Env;
  readonly host: string;
  readonly connections: readonly Connection[];
  readonly dial: (signal: AbortSignal) => Promise<Connection>;
  /** Takes a connection into use. */
  readonly adopt: (connection: Connection) => void;
  readonly signal: AbortSignal;
}

/**
 * After the network may have changed: asks every connection for a sign of life, and ends one that gives none only when another
 * has shown that the far side can be reached. So a stall drops nothing, and a dead connection is replaced as soon as the network
 * is usable. Never rejects.
 */
export async function failover(o: ReplaceOptions): Promise<void> {
  const undecided = new Set(o.connections);
  const decided = new AbortController();
  const onAbort = (): void => decided.abort();
  o.signal.addEventListener('abort', onAbort, { once: true });
  let answered = 0;
  const decide = (connection: Connection): void => {
    undecided.delete(connection);
    if (undecided.size === 0) decided.abort();
  };
  for (const connection of o.connections) {
    void connection.closed.then(() => decide(connection));
    connection.probe().then(
      () => {
        answered++;
        decide(connection);
      },
      () => {},
    );
  }
  try {
    await sleep(o.env, PROBE_MS, decided.signal);
    const reachable = answered > 0 || (await dialAnother(o, decided.signal));
    if (reachable && !o.signal.aborted) for (const connection of undecided) void connection.end(replaced(o.host));
  } catch {
    // Every connection has answered or ended, or the link is closing: nothing to replace.
  } finally {
    o.signal.removeEventListener('abort', onAbort);
  }
}

/** Dials until a connection stands; false when there is no use in it. Rejects when `signal` aborts. */
async function dialAnother(o: ReplaceOptions, signal: AbortSignal): Promise<boolean> {
  for (;;) {
    signal.throwIfAborted();
    try {
      const connection = await o.dial(signal);
      if (signal.aborted) {
        void connection.end();
        return false;
      }
      o.adopt(connection);
      return true;
    } catch (error) {
      if (error instanceof LinkError && error.permanent) return false;
    }
    await sleep(o.env, o.env.random() * REDIAL_MS, signal);
  }
}

function replaced(host: string): LinkError {
  const message = `the link to ${host} was lost: it stayed silent after the network changed, while a new connection got through`;
  return new LinkError(message, { code: 'lost', layer: 'tcp' });
}
