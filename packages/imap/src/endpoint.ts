/** The IMAP endpoint: a local listener whose sessions are those of a far imapd. */
import type { Server, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type Admit, type Env, responseText, withoutCompress } from '@postern/core';
import { type Continuity, carry } from './carry.ts';
import { Connection, type EndpointTls, type ImapdFor } from './connection.ts';
import type { OnImapEvent } from './event.ts';
import type { Imapd } from './imapd.ts';
import { MAX_SESSIONS, MAX_SESSIONS_PER_PEER } from './limits.ts';
import { closeGently, splice } from './splice.ts';

/** What {@link createEndpoint} needs. */
export interface EndpointOptions {
  /** Listening or not; the caller owns it, its address and its end. */
  readonly server: Server;
  readonly imapd: ImapdFor;
  readonly admit: Admit;
  readonly env: Env;
  readonly onEvent?: OnImapEvent;
  readonly tls?: EndpointTls;
  /** For Unix sockets: no login, the far PREAUTH greeting itself. A function is asked with an empty name. */
  readonly preauth?: boolean;
  /** What the greeting calls us (default `Postern`). */
  readonly name?: string;
  /** Sessions outlive their link; absent: the plain splice. Have the imapd `noted`, too. */
  readonly continuity?: Continuity;
}

/** A running endpoint. */
export interface Endpoint extends AsyncDisposable {
  /** Open connections, logged in or not. */
  readonly sessions: number;
  /** Takes no new connections; those there are go on. */
  stop(): void;
  /** `stop`, then `* BYE` to every client. Resolves when all are closed. */
  close(): Promise<void>;
}

/** Serves the connections of `server` from now on. */
export function createEndpoint(o: EndpointOptions): Endpoint {
  const connections = new Set<Connection>();
  const perPeer = new Map<string, number>();
  const onEvent = o.onEvent ?? (() => {});

  const onConnection = (socket: Socket): void => {
    const address = socket.remoteAddress ?? 'unix';
    const count = perPeer.get(address) ?? 0;
    const peer = socket.remotePort === undefined ? address : `${address}:${socket.remotePort}`;
    if (connections.size >= MAX_SESSIONS || count >= MAX_SESSIONS_PER_PEER) {
      onEvent({ type: 'refused', peer, reason: 'too many connections' });
      socket.on('error', () => {});
      socket.write('* BYE [LIMIT] Too many connections\r\n');
      return void closeGently(socket, o.env);
    }
    perPeer.set(address, count + 1);
    const connection = new Connection({ ...o, socket, peer, onEvent });
    connections.add(connection);
    void connection.done.then(() => {
      connections.delete(connection);
      const left = (perPeer.get(address) ?? 1) - 1;
      if (left > 0) perPeer.set(address, left);
      else perPeer.delete(address);
    });
  };

  const stop = (): void => void o.server.off('connection', onConnection);
  const close = async (): Promise<void> => {
    stop();
    for (const connection of connections) connection.close('Postern is shutting down');
    await Promise.all([...connections].map((connection) => connection.done));
  };
  o.server.on('connection', onConnection);
  return {
    get sessions() {
      return connections.size;
    },
    stop,
    close,
    [Symbol.asyncDispose]: close,
  };
}

/**
 * Gives `client` (a pipe's stdin and stdout, say) a far session with its PREAUTH greeting. Without one, `* BYE [UNAVAILABLE]
 * reason`. Resolves when it is over, with the error when there was no session; never rejects. Aborting `signal` ends it.
 */
export async function attachPreauth(
  client: Duplex,
  o: { imapd: Imapd; env: Env; signal: AbortSignal; continuity?: Continuity },
): Promise<Error | undefined> {
  client.on('error', () => {});
  try {
    const { session } = await o.imapd.take({ signal: o.signal });
    const { imapd, env, continuity } = o;
    client.write(continuity === undefined ? session.greeting : withoutCompress(session.greeting));
    const joined =
      continuity === undefined
        ? splice(client, session.channel, { host: imapd.host, env })
        : carry(client, session, { ...continuity, imapd, env });
    const onAbort = (): void => joined.close('Postern is shutting down');
    o.signal.addEventListener('abort', onAbort, { once: true });
    await joined.done;
    o.signal.removeEventListener('abort', onAbort);
    return undefined;
  } catch (cause) {
    const error = cause instanceof Error ? cause : new Error(String(cause));
    if (client.writable) client.write(`* BYE [UNAVAILABLE] ${responseText(error.message)}\r\n`);
    await closeGently(client, o.env);
    return error;
  }
}
