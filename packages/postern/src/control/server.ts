import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { errnoOf, PosternError } from '../errors.ts';
import { CONTROL_MAX_CONNECTIONS, type ControlResponse, REQUEST_MAX_BYTES } from './protocol.ts';

/** What answers one method: a value that JSON can hold, or a {@link PosternError}. */
export type ControlHandler = (params: Record<string, unknown>) => unknown | Promise<unknown>;

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
export async function openControlServer(
  path: string,
  handlers: Readonly<Record<string, ControlHandler>>,
): Promise<ControlServer> {
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

/**
 * Listens on a Unix socket, mode 0600. What a dead owner left at `path` is removed first. Throws {@link PosternError} `unavailable` when the
 * address is in use, or is a file that is no socket.
 */
export async function listenUnix(server: Server, path: string): Promise<void> {
  if (Buffer.byteLength(path) > UNIX_PATH_MAX) {
    throw new PosternError('config', `the socket path ${path} is longer than the system's ${UNIX_PATH_MAX} octets`, {
      fix: 'set XDG_RUNTIME_DIR or state_dir to a shorter path',
    });
  }
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found !== undefined && !found.isSocket()) {
    throw new PosternError('unavailable', `${path} is there and is no socket`);
  }
  if (found !== undefined && (await answers(path)))
    throw new PosternError('unavailable', `another program listens on ${path}`);
  try {
    unlinkSync(path);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw inUse(path, error);
  }
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(inUse(path, error)));
    // The directory is 0700, so nobody gets in between listen and chmod.
    server.listen(path, () => {
      server.removeAllListeners('error');
      chmodSync(path, 0o600);
      resolve();
    });
  });
}

/** `sun_path` of Linux holds 108 octets with the final NUL, that of macOS 104. */
const UNIX_PATH_MAX: number = process.platform === 'linux' ? 107 : 103;

function inUse(path: string, cause: unknown): PosternError {
  return new PosternError('unavailable', `the socket ${path} cannot be made (${errnoOf(cause)})`, { cause });
}

/** True when somebody accepts connections there. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error) => {
      const errno = errnoOf(error);
      // Its backlog is full: somebody lives there.
      if (errno === 'EAGAIN') resolve(true);
      else if (errno === 'ECONNREFUSED' || errno === 'ENOENT') resolve(false);
      else reject(inUse(path, error));
    });
  });
}

function serve(socket: Socket, handlers: Readonly<Record<string, ControlHandler>>): void {
  let pending = '';
  let turn: Promise<void> = Promise.resolve();
  socket.setEncoding('utf8');
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: string) => {
    const lines = (pending + chunk).split('\n');
    pending = lines.pop() ?? '';
    if (pending.length > REQUEST_MAX_BYTES || lines.some((line) => line.length > REQUEST_MAX_BYTES)) {
      socket.destroy();
      return;
    }
    for (const line of lines) {
      turn = turn.then(async () => {
        if (socket.destroyed) return;
        const response = await answer(line, handlers);
        if (socket.destroyed || socket.write(`${JSON.stringify(response)}\n`)) return;
        await new Promise<void>((resolve) => {
          socket.once('drain', resolve);
          socket.once('close', resolve);
        });
      });
    }
  });
}

async function answer(line: string, handlers: Readonly<Record<string, ControlHandler>>): Promise<ControlResponse> {
  try {
    const request: unknown = JSON.parse(line);
    const { method, params } = Object(request) as { method?: unknown; params?: unknown };
    if (typeof method !== 'string' || !Object.hasOwn(handlers, method)) {
      throw new PosternError('usage', 'the running daemon does not know this request; is it an older version?');
    }
    return { result: (await handlers[method]?.(Object(params ?? {}) as Record<string, unknown>)) ?? null };
  } catch (error) {
    if (error instanceof PosternError) {
      return { error: { code: error.code, message: error.message, fix: error.fix } };
    }
    return { error: { code: 'software', message: error instanceof Error ? error.message : String(error) } };
  }
}
