/** A TCP connection by name, or one error with its layer. */
import { spawn } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { deadline, type Env, LinkError, type LinkErrorCode, printable } from '@postern/core';
import { ReadBuffer } from './backends/ssh2/read-buffer.ts';
import { formatAddress } from './host/destination.ts';
import type { ResolvedHost } from './host/resolved-host.ts';

/** A connected socket, and what it reads into. Rejects with a `LinkError` of layer `dns` or `tcp`, or the signal's reason. */
export function connectTcp(
  host: ResolvedHost,
  o: { env: Env; signal: AbortSignal; onLookup?: () => void },
): Promise<{ socket: Socket; reads: ReadBuffer }> {
  const where = formatAddress(host.hostname, host.port);
  const limit = deadline(o.env, host.connectTimeoutMs, {
    parent: o.signal,
    reason: () =>
      new LinkError(`${where} did not answer within ${host.connectTimeoutMs / 1000} s`, {
        code: 'unreachable',
        layer: 'tcp',
      }),
  });
  return new Promise<{ socket: Socket; reads: ReadBuffer }>((resolve, reject) => {
    if (limit.signal.aborted) return reject(limit.signal.reason);
    const reads = new ReadBuffer();
    const socket = connect({
      host: host.hostname,
      port: host.port,
      noDelay: true,
      onread: reads.onread,
      ...(host.family === undefined ? {} : { family: host.family }),
      ...(host.bindAddress === undefined ? {} : { localAddress: host.bindAddress }),
    });
    reads.feed(socket);
    const onAbort = (): void => fail(limit.signal.reason);
    const fail = (error: unknown): void => {
      limit.signal.removeEventListener('abort', onAbort);
      socket.destroy();
      reject(error);
    };
    limit.signal.addEventListener('abort', onAbort, { once: true });
    // Stays attached: Node may report errors of the lost address race after the first.
    socket.on('error', (error) => fail(connectError(error, where)));
    socket.once('lookup', (error) => error === null && o.onLookup?.());
    socket.once('connect', () => {
      limit.signal.removeEventListener('abort', onAbort);
      resolve({ socket, reads });
    });
  }).finally(() => limit[Symbol.dispose]());
}

const CONNECT_CODES: Readonly<Record<string, { code: LinkErrorCode; says: string }>> = {
  ENOTFOUND: { code: 'not-found', says: 'has no address: the name does not resolve' },
  EAI_AGAIN: { code: 'not-found', says: 'could not be looked up: no answer from the name service' },
  EAI_NODATA: { code: 'not-found', says: 'has no address: the name does not resolve' },
  ECONNREFUSED: { code: 'refused', says: 'refuses the connection: no server listens there' },
  ETIMEDOUT: { code: 'unreachable', says: 'does not answer' },
  EHOSTUNREACH: { code: 'unreachable', says: 'cannot be reached: no route to it' },
  ENETUNREACH: { code: 'unreachable', says: 'cannot be reached: no network' },
  ECONNRESET: { code: 'refused', says: 'reset the connection' },
};

function connectError(
  error: NodeJS.ErrnoException & { errors?: readonly NodeJS.ErrnoException[] },
  where: string,
): LinkError {
  const code = error.code ?? error.errors?.[0]?.code ?? '';
  const known = CONNECT_CODES[code] ?? {
    code: 'unreachable' as const,
    says: `cannot be connected to: ${error.message}`,
  };
  return new LinkError(`${where} ${known.says}`, {
    code: known.code,
    layer: known.code === 'not-found' ? 'dns' : 'tcp',
    cause: error,
  });
}

/** How much of a ProxyCommand's stderr an error tells, characters. */
const MAX_SAID = 400;

/** The stdin and stdout of a ProxyCommand, run as ssh runs it: `exec` in the user's shell, ended with its process group. */
export function runProxyCommand(command: string): Duplex {
  const child = spawn('/bin/sh', ['-c', `exec ${command}`], { stdio: ['pipe', 'pipe', 'pipe'], detached: true });
  const pipe = new Duplex({
    read: () => void child.stdout.resume(),
    // That it no longer reads is its end, and the status that comes with that tells more than EPIPE.
    write: (chunk, _encoding, done) => void child.stdin.write(chunk, () => done()),
    final: (done) => void child.stdin.end(() => done()),
    destroy(error, done) {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGTERM');
      } catch {
        // It has ended by itself.
      }
      done(error);
    },
  });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said = `${said}${chunk.toString('utf8')}`.slice(-MAX_SAID);
  });
  child.stdout.on('data', (chunk) => pipe.push(chunk) || child.stdout.pause());
  child.stdin.on('error', () => {});
  child.on('error', (error) => pipe.destroy(error));
  // Waits for the status, which tells an end from a failure.
  child.on('close', (code, signal) => {
    if (code === 0) pipe.push(null);
    else
      pipe.destroy(
        new Error(
          `ProxyCommand ended with ${signal ?? `status ${code}`}${said && `: ${printable(said.trim().replace(/\s*\n\s*/g, ' '))}`}`,
        ),
      );
  });
  // It may fail before anybody listens.
  pipe.on('error', () => {});
  return pipe;
}
