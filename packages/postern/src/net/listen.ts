/** Binding: an occupied address is known before anything starts, and a socket file is 0600. */
import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { errnoOf, PosternError } from '../base/errors.ts';
import { makeSocketDirectory } from '../base/paths.ts';
import { formatListen, type ListenAddress } from '../config/units.ts';

/** A listener that is bound, but keeps who connects waiting until `release`. */
export interface BoundListener {
  readonly server: Server;
  readonly type: ListenAddress['type'];
  /** Where it really listens: the port is the true one where 0 was asked for. */
  readonly address: string;
  /** The same as a value. */
  readonly bound: ListenAddress;
  /** Hands on those who connected meanwhile; call it once the server's owner listens to `connection`. */
  release(): void;
}

/** Most connections kept waiting before {@link BoundListener.release}. */
const HELD_MAX = 512;

/**
 * Binds a listener, or takes over the bound socket `fd`, so that an occupied address is known before anything is started. Throws {@link PosternError}: `unavailable` for an address
 * that cannot be had, `config` for a Unix socket in a directory open to others.
 */
export async function bindListener(
  address: ListenAddress,
  o: { uid: number; runtimeDir: string; fd?: number | undefined },
): Promise<BoundListener> {
  const server = createServer({ allowHalfOpen: true });
  const held: Socket[] = [];
  const hold = (socket: Socket): void => {
    if (held.length >= HELD_MAX) socket.destroy();
    else held.push(socket);
  };
  server.on('connection', hold);
  if (o.fd !== undefined) {
    await listenInherited(server, o.fd, address);
  } else if (address.type === 'unix') {
    const directory = dirname(address.path);
    makeSocketDirectory(directory, o.uid, directory === o.runtimeDir);
    await listenUnix(server, address.path);
  } else {
    await listenTcp(server, address);
  }
  const bound = trueAddress(server, address);
  return {
    server,
    type: address.type,
    address: formatListen(bound),
    bound,
    release() {
      server.off('connection', hold);
      for (const socket of held.splice(0)) server.emit('connection', socket);
    },
  };
}

/** On a socket that systemd has bound (sd_listen_fds(3)); its path and mode are the socket unit's. */
function listenInherited(server: Server, fd: number, address: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(notBound(address, error)));
    server.listen({ fd }, () => {
      server.removeAllListeners('error');
      resolve();
    });
  });
}

function listenTcp(server: Server, address: ListenAddress & { type: 'tcp' }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(notBound(address, error)));
    server.listen({ host: address.host, port: address.port }, () => {
      server.removeAllListeners('error');
      resolve();
    });
  });
}

function notBound(address: ListenAddress, cause: Error): PosternError {
  const where = formatListen(address);
  const errno = errnoOf(cause);
  if (errno === 'EADDRINUSE') {
    return new PosternError('unavailable', `${where} is taken by another program`, {
      fix: 'choose another address with --imap, --smtp or listen; `ss -ltnp` shows who has it',
      cause,
    });
  }
  const why = errno === 'EACCES' ? 'this user may not listen there' : `${errno}`;
  return new PosternError('unavailable', `nothing can listen on ${where}: ${why}`, { cause });
}

function trueAddress(server: Server, address: ListenAddress): ListenAddress {
  const bound = server.address();
  if (address.type === 'unix' || bound === null || typeof bound === 'string') return address;
  return { type: 'tcp', host: bound.address, port: bound.port };
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
