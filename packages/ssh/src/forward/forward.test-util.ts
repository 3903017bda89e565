import { once } from 'node:events';
import { connect, createServer, type NetConnectOpts, type Server, type Socket } from 'node:net';
import { deferred } from '@postern/core';
import type { ForwardEvent } from './event.ts';

/** A server of a test. */
export interface Served extends AsyncDisposable {
  readonly server: Server;
  /** 0 at a path. */
  readonly port: number;
}

/** A listener that allows half-open, on loopback or at a path. Its connections end with it. */
export async function listen(onSocket?: (socket: Socket) => void, path?: string): Promise<Served> {
  const server = createServer({ allowHalfOpen: true }, onSocket);
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
  });
  if (path === undefined) server.listen(0, '127.0.0.1');
  else server.listen(path);
  await once(server, 'listening');
  const address = server.address();
  return {
    server,
    port: address !== null && typeof address === 'object' ? address.port : 0,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A port that nobody listens on any more. */
export async function closedPort(): Promise<number> {
  await using served = await listen();
  return served.port;
}

/** Sends, half-closes, and reads the answer; rejects with the socket's error. */
export function exchange(at: NetConnectOpts, bytes: string | Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ ...at, allowHalfOpen: true });
    const chunks: Buffer[] = [];
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('end', () => resolve(Buffer.concat(chunks).toString('latin1')));
    socket.on('error', reject);
    socket.end(bytes);
  });
}

/** What a forward told. */
export interface Heard {
  readonly events: ForwardEvent[];
  onEvent(event: ForwardEvent): void;
  /** The first event of a type, past or to come. */
  next(type: ForwardEvent['type']): Promise<ForwardEvent>;
}

export function hear(): Heard {
  const events: ForwardEvent[] = [];
  const waiting: { type: string; resolve(event: ForwardEvent): void }[] = [];
  return {
    events,
    onEvent(event) {
      events.push(event);
      for (const waiter of waiting) if (waiter.type === event.type) waiter.resolve(event);
    },
    next(type) {
      const { promise, resolve } = deferred<ForwardEvent>();
      const there = events.find((event) => event.type === type);
      if (there !== undefined) resolve(there);
      waiting.push({ type, resolve });
      return promise;
    },
  };
}
