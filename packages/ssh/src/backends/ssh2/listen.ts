/** What the far side listens on ends with its connection, and is cancelled when it is closed. */
import { type Channel, LinkError } from '@postern/core';
import type { Client, ClientChannel, TcpConnectionDetails } from 'ssh2';
import type { RemoteBind, RemoteListener } from '../../forward/reverse.ts';

/** What the connection lends. */
export interface ListenOptions {
  /** Makes a channel of what ssh2 hands over, in the very callback. */
  readonly adopt: (raw: ClientChannel) => Channel;
  readonly accept: (channel: Channel) => void;
  /** Resolves when the connection is over. */
  readonly closed: Promise<LinkError>;
}

/** Has the far sshd listen (RFC 4254 §7.1). Rejects with what ssh2 says: `channel-refused` when the far side will not. */
export function listenRemote(client: Client, bind: RemoteBind, o: ListenOptions): Promise<RemoteListener> {
  return new Promise((resolve, reject) => {
    client.forwardIn(bind.host, bind.port, (error, port) => {
      if (error !== undefined) reject(refused(bind, error));
      // A connection may follow the answer at once: its listener must stand before this callback returns.
      else resolve(listener(client, { host: bind.host, port }, o));
    });
  });
}

function listener(client: Client, bind: RemoteBind, o: ListenOptions): RemoteListener {
  const onConnection = (details: TcpConnectionDetails, accept: () => ClientChannel): void => {
    if (details.destIP === bind.host && details.destPort === bind.port) o.accept(o.adopt(accept()));
  };
  client.on('tcp connection', onConnection);
  let end: (error: LinkError) => void;
  const closed = new Promise<LinkError>((resolve) => {
    end = (error) => {
      client.off('tcp connection', onConnection);
      resolve(error);
    };
    void o.closed.then(end);
  });
  return {
    port: bind.port,
    closed,
    close() {
      end(new LinkError('the far listener was closed from this side', { code: 'aborted', layer: 'channel' }));
      try {
        client.unforwardIn(bind.host, bind.port, () => {});
      } catch {
        // The connection is over, and its listeners with it.
      }
    },
  };
}

function refused(bind: RemoteBind, cause: Error): LinkError {
  const where = `${bind.host || '*'}:${bind.port}`;
  return new LinkError(`the far sshd does not listen on ${where}`, {
    code: 'channel-refused',
    layer: 'channel',
    cause,
  });
}
