/** A dial through ssh2: each hop in turn, and the first fault with its layer. */
import type { Duplex } from 'node:stream';
import { deadline, type Layer, LinkError, printable, raceAbort } from '@postern/core';
import ssh2 from 'ssh2';
import { authenticator } from '../../auth/auth.ts';
import { type HostKeyCheck, loadHostKeyCheck } from '../../auth/host-key.ts';
import { type Identities, loadIdentities } from '../../auth/identities.ts';
import {
  type Connection,
  DEFAULT_HANDSHAKE_TIMEOUT_MS,
  DEFAULT_LIMITS,
  DEFAULT_OPEN_TIMEOUT_MS,
  type Dial,
  type DialOptions,
  type DialProgress,
} from '../../connection.ts';
import { formatAddress } from '../../host/destination.ts';
import type { ResolvedHost } from '../../host/resolved-host.ts';
import { markNeedsOpenssh } from '../../needs-openssh.ts';
import { connectTcp, runProxyCommand } from '../../socket.ts';
import { ALGORITHMS } from './algorithms.ts';
import { Ssh2Connection } from './connection.ts';
import { onAuthRefusal, onPreamble } from './internals.ts';
import { offerMlkem } from './kex.ts';
import { type Kem, loadKem } from './mlkem.ts';
import type { ReadBuffer } from './read-buffer.ts';

/** Dials with ssh2, hop after hop; each hop has its own keys, host key check and keepalive. */
export const dialSsh2: Dial = async (host, o) => {
  const hops: Connection[] = [];
  try {
    for (const [index, hop] of host.jump.entries()) {
      hops.push(await dialHop(hop, hops.at(-1), { ...o, hop: hop.host, via: host.jump[index - 1]?.host }));
    }
    const last = await dialHop(host, hops.at(-1), { ...o, via: host.jump.at(-1)?.host });
    void last.closed.then((error) => endAll(hops, error));
    return last;
  } catch (error) {
    endAll(hops);
    throw error;
  }
};

function endAll(hops: readonly Connection[], error?: LinkError): void {
  for (const hop of [...hops].reverse()) void hop.end(error);
}

interface HopOptions extends DialOptions {
  /** The jump host being dialled; absent for the destination. */
  readonly hop?: string;
  /** The jump host before. */
  readonly via?: string | undefined;
}

async function dialHop(host: ResolvedHost, via: Connection | undefined, o: HopOptions): Promise<Connection> {
  const progress = (news: DialProgress): void => o.onProgress?.(o.hop === undefined ? news : { ...news, hop: o.hop });
  try {
    // Files, agent and network at the same time: a cold start should cost one of them, not their sum.
    const prepared = Promise.all([
      loadHostKeyCheck(host, { acceptNew: o.acceptNewHostKey === true, link: o.link }),
      loadIdentities(host, o.env),
      loadKem(),
    ]);
    prepared.catch(() => {});
    const { socket, reads } = await openSocket(host, via, o, progress);
    progress({ type: 'passed', step: 'tcp' });
    try {
      const [hostKeys, identities, kem] = await raceAbort(prepared, o.signal);
      return await handshake(host, { ...o, socket, reads, hostKeys, identities, kem, progress });
    } catch (error) {
      socket.destroy();
      throw error;
    }
  } catch (error) {
    throw o.hop === undefined || !(error instanceof LinkError) ? error : atHop(error, o.hop);
  }
}

/** The same fault, with the name of the hop it happened at. */
function atHop(error: LinkError, hop: string): LinkError {
  if (error.hop !== undefined) return error;
  const { code, layer, fix } = error;
  return new LinkError(`at jump host ${hop}: ${error.message}`, { code, layer, hop, fix, cause: error });
}

async function openSocket(
  host: ResolvedHost,
  via: Connection | undefined,
  o: HopOptions,
  progress: (news: DialProgress) => void,
): Promise<{ socket: Duplex; reads?: ReadBuffer }> {
  if (via !== undefined) return { socket: await openThrough(via, host, o) };
  if (host.proxyCommand !== undefined) return { socket: runProxyCommand(host.proxyCommand) };
  return connectTcp(host, { ...o, onLookup: () => progress({ type: 'passed', step: 'dns' }) });
}

/** A channel of the hop before, as a socket. */
async function openThrough(via: Connection, host: ResolvedHost, o: HopOptions): Promise<Duplex> {
  const limit = deadline(o.env, host.connectTimeoutMs, {
    parent: o.signal,
    reason: () => jumpError(host, 'the jump host did not connect to it in time', undefined),
  });
  try {
    const target = { type: 'tcp', host: host.hostname, port: host.port } as const;
    const { stream } = await via.open(target, { signal: limit.signal });
    return stream;
  } catch (error) {
    if (error instanceof LinkError && error.code === 'channel-refused') {
      throw jumpError(host, `the jump host cannot connect to it (${error.message})`, error);
    }
    throw error;
  } finally {
    limit[Symbol.dispose]();
  }
}

function jumpError(host: ResolvedHost, why: string, cause: unknown): LinkError {
  const where = formatAddress(host.hostname, host.port);
  return new LinkError(`${where}: ${why}`, { code: 'unreachable', layer: 'jump', cause });
}

/** Most that is kept of what a server says before its version, characters. */
const MAX_PREAMBLE = 1024;

interface HandshakeOptions extends HopOptions {
  readonly socket: Duplex;
  readonly reads: ReadBuffer | undefined;
  readonly hostKeys: HostKeyCheck;
  readonly identities: Identities;
  readonly kem: Kem;
  readonly progress: (news: DialProgress) => void;
}

/** From a connected socket to an authenticated connection. One new Client each time: ssh2's are not fit for a second connect. */
function handshake(host: ResolvedHost, o: HandshakeOptions): Promise<Connection> {
  const { socket } = o;
  // What ended while files were read said so to nobody.
  if (socket.destroyed || socket.readableEnded) {
    return Promise.reject(
      handshakeError(formatAddress(host.hostname, host.port), 'ident', socket.errored ?? undefined),
    );
  }
  return new Handshake(host, o).run();
}

class Handshake {
  readonly #host: ResolvedHost;
  readonly #o: HandshakeOptions;
  readonly #client: ssh2.Client = new ssh2.Client();
  readonly #auth: ReturnType<typeof authenticator>;
  readonly #where: string;
  #phase: 'ident' | 'kex' | 'auth' | 'over' = 'ident';
  #preamble = '';
  #keyFault: LinkError | undefined;
  #wantsCommit: Promise<unknown> = Promise.resolve();

  constructor(host: ResolvedHost, o: HandshakeOptions) {
    this.#host = host;
    this.#o = o;
    this.#auth = authenticator(host, o.identities);
    this.#where = formatAddress(host.hostname, host.port);
  }

  run(): Promise<Connection> {
    const { env, signal, handshakeTimeoutMs: limitMs = DEFAULT_HANDSHAKE_TIMEOUT_MS } = this.#o;
    const reason = (): LinkError => silence(this.#where, this.#phase, limitMs);
    const limit = deadline(env, limitMs, { parent: signal, reason });
    const failed = this.#failed(limit.signal);
    const ready = this.#ready();
    this.#follow();
    this.#connect();
    for (const text of this.#o.identities.notices) this.#o.progress({ type: 'notice', text });
    failed.catch(() => {});
    return Promise.race([ready, failed]).finally(async () => {
      limit[Symbol.dispose]();
      // Also when authentication failed after it: the key was proved all the same.
      await this.#wantsCommit;
    });
  }

  /** Rejects with the first fault. */
  #failed(limit: AbortSignal): Promise<never> {
    const client = this.#client;
    return new Promise<never>((_, reject) => {
      limit.addEventListener('abort', () => reject(limit.reason), { once: true });
      // Errors come twice, after the first, or not at all: the first tells, the others must find a listener.
      client.on('error', (error: Error & { level?: string }) => {
        if (error.level === 'agent') return this.#auth.note(error.message);
        const refused = this.#auth.started && isRefusal(error);
        reject(this.#keyFault ?? (refused ? this.#auth.failure(error) : this.#fault(error)));
      });
      const ended = (): void => reject(this.#fault(undefined));
      client.on('end', ended);
      client.on('close', ended);
    });
  }

  #fault(error: Error | undefined): LinkError {
    return handshakeError(this.#where, this.#phase, error, this.#preamble);
  }

  #ready(): Promise<Connection> {
    const { openTimeoutMs = DEFAULT_OPEN_TIMEOUT_MS, limits, progress } = this.#o;
    return new Promise<Connection>((resolve) => {
      this.#client.once('ready', () => {
        this.#phase = 'over';
        this.#client.removeAllListeners('end').removeAllListeners('close');
        const connection = new Ssh2Connection(this.#client, {
          ...this.#o,
          host: this.#host,
          openTimeoutMs,
          limits: { ...DEFAULT_LIMITS, ...limits },
          onRekey: () => progress({ type: 'rekeyed' }),
        });
        progress({ type: 'passed', step: 'auth' });
        resolve(connection);
      });
    });
  }

  /** Tells how far it is. */
  #follow(): void {
    const { hostKeys, progress } = this.#o;
    this.#client.on('banner', (text) => progress({ type: 'banner', text }));
    this.#client.once('handshake', ({ kex }: ssh2.NegotiatedAlgorithms) => {
      this.#phase = 'auth';
      progress({ type: 'passed', step: 'kex', algorithm: kex });
      progress({ type: 'passed', step: 'hostkey' });
      this.#wantsCommit = hostKeys.commit().then((key) => key && progress({ type: 'accepted', key }));
      this.#wantsCommit.catch(() => {});
    });
  }

  #connect(): void {
    const { socket, hostKeys, kem } = this.#o;
    this.#client.connect({
      sock: socket as never,
      username: this.#host.user,
      readyTimeout: 0,
      keepaliveInterval: 0,
      algorithms: {
        ...ALGORITHMS,
        serverHostKey: [...hostKeys.algorithms] as ssh2.ServerHostKeyAlgorithm[],
        compress: this.#host.compression ? ['zlib@openssh.com', 'none'] : ['none'],
      },
      hostVerifier: (key: Buffer) => {
        if (this.#phase === 'ident') this.#phase = 'kex';
        this.#keyFault = hostKeys.verify(key);
        return this.#keyFault === undefined;
      },
      authHandler: this.#auth.handler,
    } as ssh2.ConnectConfig);
    offerMlkem(this.#client, kem);
    onAuthRefusal(this.#client, this.#auth.accepts);
    onPreamble(this.#client, (text) => {
      this.#preamble = `${this.#preamble}${text}`.slice(0, MAX_PREAMBLE);
    });
  }
}

/** ssh2 says so when its keys ran out; sshd when we tried too many (RFC 4253 §11.1, reasons 2 and 14 in OpenSSH). */
function isRefusal(error: Error & { level?: string; code?: unknown }): boolean {
  return error.level === 'client-authentication' || /too many authentication failures/i.test(error.message);
}

function silence(where: string, phase: string, limitMs: number): LinkError {
  const what =
    phase === 'ident' ? 'is connected but does not speak SSH: is that the right port?' : 'fell silent while connecting';
  return new LinkError(`${where} ${what} (waited ${limitMs / 1000} s)`, { code: 'timeout', layer: 'tcp' });
}

/** The layer a fault of the handshake belongs to; before the far side has said what it is, its port. */
const HANDSHAKE_LAYERS: Readonly<Record<string, Layer>> = { kex: 'kex', auth: 'auth' };

function handshakeError(where: string, phase: string, cause: Error | undefined, preamble = ''): LinkError {
  const text = cause?.message ?? '';
  // What there is in common is known from the far KEXINIT, before anything was answered.
  const layer = /no matching/i.test(text) ? 'kex' : (HANDSHAKE_LAYERS[phase] ?? 'tcp');
  const make = (message: string, fix?: string): LinkError =>
    new LinkError(message, { code: 'handshake', layer, fix, cause });
  if (/no matching/i.test(text)) {
    const none = make(
      `${where} and this side have no algorithm in common: ${text}`,
      'update the server, or set backend = "openssh" for this host',
    );
    return markNeedsOpenssh(none);
  }
  if (/identification string|expected newline|line too long|greeting lines/i.test(text)) {
    return make(`${where} is not an SSH server: ${text}`);
  }
  if (phase === 'auth') return make(`${where} hung up during authentication${text === '' ? '' : `: ${text}`}`);
  const [said = ''] = preamble.split('SSH-');
  const words = printable(said.trim().replace(/\s+/g, ' '), 200);
  const why = words === '' ? '(too many connections there?)' : `and said: ${words}`;
  return make(`${where} hung up before a session was agreed on ${why}${text && `: ${text}`}`);
}
