/** A link's connections are made by the backend of its host, and what a dial tells is told as the link's. */
import { defined, type Env } from '@postern/core';
import { dialHost } from '../backends/auto.ts';
import type { Connection, ConnectionLimits, Dial } from '../connection.ts';
import type { OnLinkEvent } from '../event.ts';
import type { ResolvedHost } from '../host/resolved-host.ts';
import type { SystemView } from './system-watch.ts';

/** What a link needs. */
export interface LinkOptions {
  readonly env: Env;
  readonly onEvent?: OnLinkEvent;
  /** Longest wait for a channel to open once connected, ms. Default 10 s. */
  readonly openTimeoutMs?: number;
  /** Longest time from the first byte to an authenticated connection, ms. Default 20 s. */
  readonly handshakeTimeoutMs?: number;
  readonly limits?: Partial<ConnectionLimits>;
  /** Connections made at most, when MaxSessions calls for several. Default 16. */
  readonly maxConnections?: number;
  /** The machine, as watched for suspends and changes of address. Default this one. */
  readonly view?: SystemView;
  /** Makes the connections. Default: the backend the host names. */
  readonly dial?: Dial;
}

/** Dials once. Rejects with a `LinkError`, or the signal's reason. */
export function dialConnection(
  host: ResolvedHost,
  o: LinkOptions & { readonly link: string; readonly signal: AbortSignal },
): Promise<Connection> {
  const { env, signal, link, openTimeoutMs, handshakeTimeoutMs, limits, onEvent } = o;
  return (o.dial ?? dialHost)(host, {
    env,
    signal,
    link,
    ...defined({ openTimeoutMs, handshakeTimeoutMs, limits }),
    onProgress(progress) {
      if (progress.type !== 'accepted') onEvent?.({ ...progress, host: link });
    },
  });
}
