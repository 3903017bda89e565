/** A dial through the system's ssh, which keeps the connection while its master lives. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deadline, LinkError, raceAbort } from '@postern/core';
import {
  type Connection,
  type ConnectionLimits,
  DEFAULT_HANDSHAKE_TIMEOUT_MS,
  DEFAULT_LIMITS,
  DEFAULT_OPEN_TIMEOUT_MS,
  type Dial,
  type DialOptions,
} from '../../connection.ts';
import { formatAddress } from '../../host/destination.ts';
import type { ResolvedHost } from '../../host/resolved-host.ts';
import { Ssh2Connection } from '../ssh2/connection.ts';
import { masterArgv } from './argv.ts';
import { explainSsh } from './explain.ts';
import { enterProxyMode, plainClient, probeThroughMaster } from './proxy.ts';

/** Largest window of a channel through a master, bytes. */
const MASTER_WINDOW_BYTES = 8 * 1024 * 1024;
/** What is kept of all ssh says while it connects, characters. */
const MAX_STDERR = 256 * 1024;
/**
 * Runs ssh so that it ends when its starter does, even by SIGKILL: the shell sees the end of its own input. Only ssh holds the
 * stderr we read, whose end is ssh's.
 */
const LEASH = `command -v ssh >/dev/null || { echo "ssh: not found" >&2; exit 127; }
exec 3>&2 2>/dev/null
ssh "$@" </dev/null 2>&3 3>&- &
exec 3>&-
cat >/dev/null
kill $!`;

/**
 * Dials with the system's ssh, which brings all of its authentication (FIDO, certificates, PKCS#11, GSSAPI): one ControlMaster
 * per connection, whose proxy mode carries every channel, so that there is no process per channel and each behaves as with ssh2.
 */
export const dialOpenssh: Dial = async (host, o) => {
  const dir = await mkdtemp(join(tmpdir(), 'postern-'));
  const socketPath = join(dir, 's');
  const argv = masterArgv(host, { socket: socketPath, acceptNewHostKey: o.acceptNewHostKey === true });
  const master = startMaster(argv, socketPath);
  const limitMs = (o.handshakeTimeoutMs ?? DEFAULT_HANDSHAKE_TIMEOUT_MS) + host.connectTimeoutMs;
  const limit = deadline(o.env, limitMs, { parent: o.signal, reason: () => silence(host, limitMs) });
  try {
    await raceAbort(master.untilReady(host, o), limit.signal);
    const socket = await raceAbort(openSocket(socketPath), limit.signal, (late) => late.destroy());
    o.onProgress?.({ type: 'passed', step: 'auth' });
    return lend(host, { ...o, master, socket, dir });
  } catch (error) {
    await master.end();
    await rm(dir, { recursive: true, force: true });
    throw error;
  } finally {
    limit[Symbol.dispose]();
  }
};

function silence(host: ResolvedHost, limitMs: number): LinkError {
  const where = formatAddress(host.hostname, host.port);
  return new LinkError(`ssh got no further with ${where} within ${limitMs / 1000} s`, {
    code: 'timeout',
    layer: 'tcp',
  });
}

/** A running ssh. */
interface Master {
  /** Resolves when ssh is authenticated and its socket there; rejects when it ends first. */
  untilReady(host: ResolvedHost, o: DialOptions): Promise<void>;
  /** The last it said, without `-v`'s own lines. */
  lastWords(): string;
  /** Ends it; resolves when it is gone. */
  end(): Promise<void>;
}

function startMaster(argv: readonly string[], socketPath: string): Master {
  const child = spawn('/bin/sh', ['-c', LEASH, 'ssh', ...argv], { stdio: ['pipe', 'ignore', 'pipe'] });
  let stderr = '';
  let heard: () => void = () => {};
  const gone = new Promise<void>((resolve) => {
    child.stderr.once('close', resolve);
    child.once('error', () => resolve());
  });
  child.stdin.on('error', () => {});
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-MAX_STDERR);
    heard();
  });
  return {
    untilReady: (host, o) =>
      new Promise((resolve, reject) => {
        const steps = passedSteps(host, o);
        heard = () => {
          steps(stderr);
          // A jump host's ssh says so too; the socket is the master's own.
          if (!/^debug1: Entering interactive session/m.test(stderr) || !existsSync(socketPath)) return;
          heard = () => {};
          stderr = '';
          resolve();
        };
        void gone.then(() => reject(explainSsh(host, { stderr, link: o.link })));
      }),
    lastWords: () =>
      stderr
        .replace(/^debug\d:.*$/gm, '')
        .trim()
        .replace(/\s+/g, ' '),
    async end() {
      await endChild(child);
      await gone;
    },
  };
}

async function endChild(child: ChildProcess): Promise<void> {
  child.stdin?.end();
  if (child.exitCode === null && child.signalCode === null && child.pid !== undefined) await once(child, 'exit');
}

/** Reports each layer as ssh tells of passing it, and the keys it has written down. */
function passedSteps(host: ResolvedHost, o: DialOptions): (stderr: string) => void {
  const steps = [
    { says: /^debug1: Connection established|^debug1: Executing proxy command/m, step: 'tcp' },
    { says: /^debug1: kex: algorithm: (\S+)/m, step: 'kex' },
    { says: /is known and matches the|Permanently added/, step: 'hostkey' },
  ] as const;
  let passed = 0;
  let accepted = 0;
  return (stderr) => {
    for (let step = steps[passed]; step !== undefined; step = steps[++passed]) {
      const [said, algorithm] = step.says.exec(stderr) ?? [];
      if (said === undefined) break;
      o.onProgress?.({ type: 'passed', step: step.step, ...(algorithm === undefined ? {} : { algorithm }) });
    }
    const added = [
      ...stderr.matchAll(/Server host key: (\S+) (\S+)(?:(?!Server host key)[\s\S])*?Permanently added '([^']+)'/g),
    ];
    for (const [, type = '', fingerprint = '', name = ''] of added.slice(accepted)) {
      const file = host.userKnownHostsFiles[0] ?? '';
      o.onProgress?.({ type: 'accepted', key: { name, type, fingerprint, file } });
    }
    accepted = added.length;
  };
}

async function openSocket(path: string): Promise<Socket> {
  const socket = connect({ path });
  // The connection's own listener comes later.
  socket.on('error', () => {});
  await once(socket, 'connect');
  await enterProxyMode(socket);
  return socket;
}

/** ssh asks for new keys by itself, and (9.2) copies all it holds for us whenever it grows: little may wait there. */
function masterLimits(given: DialOptions['limits']): ConnectionLimits {
  const limits = { ...DEFAULT_LIMITS, ...given };
  const never = Number.POSITIVE_INFINITY;
  const channelWindowBytes = Math.min(limits.channelWindowBytes, MASTER_WINDOW_BYTES);
  return { ...limits, channelWindowBytes, rekeyBytes: never, rekeyMs: never };
}

interface Lent extends DialOptions {
  readonly master: Master;
  readonly socket: Socket;
  readonly dir: string;
}

/** The connection over a master in proxy mode. Owns the master and its directory. */
function lend(host: ResolvedHost, o: Lent): Connection {
  const connection = new Ssh2Connection(plainClient(o.socket), {
    env: o.env,
    host,
    socket: o.socket,
    openTimeoutMs: o.openTimeoutMs ?? DEFAULT_OPEN_TIMEOUT_MS,
    limits: masterLimits(o.limits),
    ping: probeThroughMaster,
    goodbye: () => o.socket.end(),
    lastWords: o.master.lastWords,
  });
  const cleared = connection.closed.then(async () => {
    await o.master.end();
    await rm(o.dir, { recursive: true, force: true });
  });
  return {
    open: (target, options) => connection.open(target, options),
    closed: connection.closed,
    get sessions() {
      return connection.sessions;
    },
    get channels() {
      return connection.channels;
    },
    get rttMs() {
      return connection.rttMs;
    },
    get heardAt() {
      return connection.heardAt;
    },
    probe: () => connection.probe(),
    async end(error) {
      await connection.end(error);
      await cleared;
    },
  };
}
