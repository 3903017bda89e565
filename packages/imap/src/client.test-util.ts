import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';

/** A line-wise client of a test. */
export interface TestClient {
  readonly socket: Duplex;
  send(text: string | Buffer): void;
  /** The next line without its CRLF; rejects when the connection ends before. */
  line(): Promise<string>;
  /** Lines up to and with the first that starts with `start`. */
  until(start: string): Promise<string[]>;
  /** Everything until the peer's FIN, as text. Rejects on a reset. */
  rest(): Promise<string>;
}

/** Wraps a connected stream. */
export function testClient(socket: Duplex): TestClient {
  let held = Buffer.alloc(0);
  let ended = false;
  let failed: Error | undefined;
  let wake = (): void => {};
  const more = (): Promise<void> =>
    new Promise((resolve) => {
      wake = resolve;
    });
  socket.on('data', (chunk: Buffer) => {
    held = Buffer.concat([held, chunk]);
    wake();
  });
  socket.on('end', () => {
    ended = true;
    wake();
  });
  socket.on('error', (error) => {
    failed = error;
    wake();
  });
  const line = async (): Promise<string> => {
    for (;;) {
      const at = held.indexOf('\n');
      if (at >= 0) {
        const text = held.subarray(0, at).toString('latin1').replace(/\r$/, '');
        held = held.subarray(at + 1);
        return text;
      }
      if (failed !== undefined) throw failed;
      if (ended) throw new Error(`ended after ${JSON.stringify(held.toString('latin1'))}`);
      await more();
    }
  };
  return {
    socket,
    send: (text) => void socket.write(text),
    line,
    async until(start) {
      const lines: string[] = [];
      for (;;) {
        const next = await line();
        lines.push(next);
        if (next.startsWith(start)) return lines;
      }
    },
    async rest() {
      while (!ended && failed === undefined) await more();
      if (failed !== undefined) throw failed;
      return held.toString('latin1');
    },
  };
}

/** A server on a free port of 127.0.0.1. */
export async function listen(): Promise<{ server: Server; port: number }> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return { server, port: typeof address === 'object' && address !== null ? address.port : 0 };
}

const dialled = new Set<Socket>();

/** Destroys every client that {@link dial} made. */
export function hangUpAll(): void {
  for (const socket of dialled) socket.destroy();
  dialled.clear();
}

/** A connected client; `allowHalfOpen`, so that only it closes its side. */
export async function dial(port: number): Promise<TestClient & { socket: Socket }> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  dialled.add(socket);
  const client = testClient(socket);
  await once(socket, 'connect');
  return { ...client, socket };
}
