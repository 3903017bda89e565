/** The control socket: one line of JSON in, one out; a bad line ends that connection alone. */
import { createServer, type Socket } from 'node:net';
import { PosternError } from '../base/errors.ts';
import { listenUnix } from '../net/listen.ts';
import { CONTROL_MAX_CONNECTIONS, type ControlResponse, REQUEST_MAX_BYTES } from './protocol.ts';
import { inTurns } from './turns.ts';

/** Characters of a long answer written at once. */
const CHUNK = 64 * 1024;

/**
 * What a handler returns to keep the connection for itself: called once the `{"result":null}` line is written, with the paused socket and
 * what was read past the request's line.
 */
export type TakeSocket = (socket: Socket, leftover: Buffer) => void;

/** What answers one method: a value that JSON can hold, a generator of an array's elements, a {@link TakeSocket}, or a thrown {@link PosternError}. */
export type ControlHandler = (params: Record<string, unknown>) => unknown;

/** The methods a control server answers, by name. */
export type ControlHandlers = Readonly<Record<string, ControlHandler>>;

/** A control socket that listens. */
export interface ControlServer {
  readonly path: string;
  /** Stops listening, ends connections, removes the socket. */
  close(): Promise<void>;
}

/**
 * Listens on the control socket, 0600. A socket whose owner is dead is taken over; one that answers is another daemon's: throws
 * {@link PosternError} `unavailable`.
 */
export async function openControlServer(path: string, handlers: ControlHandlers): Promise<ControlServer> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    serve(socket, handlers);
  });
  server.maxConnections = CONTROL_MAX_CONNECTIONS;
  await listenUnix(server, path);
  return {
    path,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

function serve(socket: Socket, handlers: ControlHandlers): void {
  let pending: Buffer = Buffer.alloc(0);
  let busy = false;
  socket.on('error', () => socket.destroy());
  const onData = (chunk: Buffer): void => {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    void work();
  };
  const work = async (): Promise<void> => {
    if (busy) return;
    busy = true;
    for (let end = pending.indexOf(0x0a); end >= 0 && !socket.destroyed; end = pending.indexOf(0x0a)) {
      const line = pending.subarray(0, end).toString('utf8');
      pending = pending.subarray(end + 1);
      socket.pause();
      const { response, elements, take } = await answer(line, handlers);
      if (socket.destroyed) return;
      if (elements !== undefined) await writeArray(socket, elements);
      const room = elements !== undefined || socket.write(`${JSON.stringify(response)}\n`);
      if (take !== undefined) {
        socket.off('data', onData);
        take(socket, pending);
        return;
      }
      if (!room) await drained(socket);
      socket.resume();
    }
    busy = false;
    if (pending.length > REQUEST_MAX_BYTES) socket.destroy();
  };
  socket.on('data', onData);
}

/** A result of many elements, of which few are in memory at a time. What fails on the way ends the connection: half is told already. */
async function writeArray(socket: Socket, elements: Iterable<unknown>): Promise<void> {
  let text = '{"result":[';
  let separator = '';
  try {
    for await (const element of inTurns(elements)) {
      text += separator + JSON.stringify(element);
      separator = ',';
      if (text.length < CHUNK) continue;
      if (!socket.write(text)) await drained(socket);
      text = '';
      if (socket.destroyed) return;
    }
    if (!socket.write(`${text}]}\n`)) await drained(socket);
  } catch {
    socket.destroy();
  }
}

function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.once('drain', resolve);
    socket.once('close', resolve);
  });
}

async function answer(
  line: string,
  handlers: ControlHandlers,
): Promise<{ response: ControlResponse; elements?: Iterable<unknown>; take?: TakeSocket }> {
  try {
    const request: unknown = JSON.parse(line);
    const { method, params } = Object(request) as { method?: unknown; params?: unknown };
    if (typeof method !== 'string' || !Object.hasOwn(handlers, method)) {
      throw new PosternError('usage', 'the running daemon does not know this request; is it an older version?');
    }
    const result = await handlers[method]?.(Object(params ?? {}) as Record<string, unknown>);
    if (typeof result === 'function') return { response: { result: null }, take: result as TakeSocket };
    if (Object.prototype.toString.call(result) === '[object Generator]') {
      return { response: { result: [] }, elements: result as Iterable<unknown> };
    }
    return { response: { result: result ?? null } };
  } catch (error) {
    if (error instanceof PosternError) {
      return { response: { error: { code: error.code, message: error.message, fix: error.fix } } };
    }
    return {
      response: { error: { code: 'software', message: error instanceof Error ? error.message : String(error) } },
    };
  }
}
