import type { Duplex } from 'node:stream';
import { type Channel, deadline, deferred, type Env, LinkError, raceAbort, type Target } from '@postern/core';
import type { Client, ClientChannel } from 'ssh2';
import type { Connection } from '../connection.ts';
import type { ResolvedHost } from '../resolved-host.ts';
import type { RemoteBind, RemoteListener } from '../reverse.ts';
import { Ssh2Channel } from './ssh2-channel.ts';
import { ping } from './ssh2-internals.ts';
import { listenRemote } from './ssh2-listen.ts';

/** What a connection needs to know. */
export interface Ssh2ConnectionOptions {
  readonly env: Env;
  readonly host: ResolvedHost;
  /** The socket under the client. */
  readonly socket: Duplex;
  readonly openTimeoutMs: number;
  /** The jump host whose channel the socket is. */
  readonly via?: string | undefined;
}

/** Silence after an unanswered probe that means the far side is gone, in keepalive intervals. */
const SILENT_INTERVALS = 1.9;
/** A tick this late was not held up by work, ms. */
const LATE_TICK_MS = 1_000;
/** Time for the far side to take our goodbye before the socket is cut, ms. */
const GOODBYE_MS = 1_000;

/** An authenticated ssh2 client. Owns its socket, keepalive and channels; is over exactly once. */
export class Ssh2Connection implements Connection {
  readonly closed: Promise<LinkError>;
  readonly #client: Client;
  readonly #o: Ssh2ConnectionOptions;
  readonly #closed = deferred<LinkError>();
  /** Resolves when the socket has closed. */
  readonly #gone: Promise<void>;
  readonly #open = new Set<Ssh2Channel>();
  #opening = 0;
  #openingSessions = 0;
  #over: LinkError | undefined;
  #rttMs: number | undefined;
  /** When the last byte came, monotonic ms. */
  #heard: number;
  /** When the probe in flight was sent, monotonic ms. */
  #probed: number | undefined;
  #timer: Disposable | undefined;
  /** When the next tick should come, monotonic ms. */
  #due = Number.POSITIVE_INFINITY;

  constructor(client: Client, o: Ssh2ConnectionOptions) {
    this.#client = client;
    this.#o = o;
    this.closed = this.#closed.promise;
    this.#heard = o.env.monotonicNow();
    this.#gone = new Promise((resolve) => o.socket.once('close', () => resolve()));
    const hungUp = (): void => this.#finish(this.#lost('the far side closed the connection'));
    client.on('error', (error: Error) => this.#finish(this.#lost(explain(error), error)));
    client.on('end', hungUp);
    client.on('close', hungUp);
    o.socket.on('data', this.#onBytes);
    this.#tick();
    this.probe().catch(() => {});
  }

  get sessions(): number {
    let count = this.#openingSessions;
    for (const channel of this.#open) if (isSession(channel.target)) count++;
    return count;
  }

  get channels(): number {
    return this.#open.size + this.#opening;
  }

  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  async open(target: Target, o: { signal: AbortSignal }): Promise<Channel> {
    o.signal.throwIfAborted();
    if (this.#over !== undefined) throw this.#over;
    const { env, openTimeoutMs, host } = this.#o;
    const limit = deadline(env, openTimeoutMs, {
      parent: o.signal,
      reason: () =>
        new LinkError(`${host.host} did not open a channel within ${openTimeoutMs / 1000} s`, {
          code: 'timeout',
          layer: 'channel',
        }),
    });
    const session = isSession(target) ? 1 : 0;
    this.#opening++;
    this.#openingSessions += session;
    try {
      return await raceAbort(this.#request(target), limit.signal, (late) => late.abort(limit.signal.reason));
    } catch (error) {
      // A channel that does not open may be the first sign of a dead link.
      if (error === limit.signal.reason && !o.signal.aborted) this.probe().catch(() => {});
      throw error;
    } finally {
      this.#opening--;
      this.#openingSessions -= session;
      limit[Symbol.dispose]();
    }
  }

  async listenRemote(
    bind: RemoteBind,
    o: { signal: AbortSignal; accept: (channel: Channel) => void },
  ): Promise<RemoteListener> {
    o.signal.throwIfAborted();
    if (this.#over !== undefined) throw this.#over;
    const { env, openTimeoutMs, host } = this.#o;
    const limit = deadline(env, openTimeoutMs, {
      parent: o.signal,
      reason: () =>
        new LinkError(`${host.host} did not answer whether it listens within ${openTimeoutMs / 1000} s`, {
          code: 'timeout',
          layer: 'channel',
        }),
    });
    const target: Target = { type: 'tcp', ...bind };
    const asked = listenRemote(this.#client, bind, {
      adopt: (raw) => this.#adopt(raw, target),
      accept: o.accept,
      closed: this.closed,
    });
    try {
      return await raceAbort(asked, limit.signal, (late) => late.close());
    } catch (error) {
      throw this.#over ?? error;
    } finally {
      limit[Symbol.dispose]();
    }
  }

  #request(target: Target): Promise<Ssh2Channel> {
    return new Promise((resolve, reject) => {
      const opened = (error: Error | undefined, raw: ClientChannel): void => {
        if (error === undefined) resolve(this.#adopt(raw, target));
        else reject(this.#over ?? refusal(target, error));
      };
      try {
        requestChannel(this.#client, target, opened);
      } catch (error) {
        // exec() on a dead client throws synchronously.
        reject(this.#over ?? this.#lost('the connection is closed', error));
      }
    });
  }

  #adopt(raw: ClientChannel, target: Target): Ssh2Channel {
    const channel = new Ssh2Channel(raw, { target, env: this.#o.env });
    this.#open.add(channel);
    raw.stderr.on('close', () => this.#open.delete(channel));
    if (this.#over !== undefined) channel.lose(this.#over);
    return channel;
  }

  probe(): Promise<number> {
    if (this.#over !== undefined) return Promise.reject(this.#over);
    const { env } = this.#o;
    const sent = env.monotonicNow();
    this.#probed ??= sent;
    return new Promise((resolve, reject) => {
      ping(this.#client, (error) => {
        // An OpenSSH server answers "failure" (`true`): any answer will do.
        if (error instanceof Error) return reject(this.#over ?? this.#lost('the connection ended', error));
        this.#probed = undefined;
        this.#rttMs = env.monotonicNow() - sent;
        resolve(this.#rttMs);
      });
    });
  }

  end(error?: LinkError): Promise<void> {
    if (this.#over !== undefined) return this.#gone;
    const { socket, env } = this.#o;
    this.#client.end();
    const cut = env.schedule(GOODBYE_MS, () => socket.destroy());
    void this.#gone.then(() => cut[Symbol.dispose]());
    this.#finish(
      error ?? new LinkError('the connection was closed from this side', { code: 'aborted', layer: 'channel' }),
      { cut: false },
    );
    return this.#gone;
  }

  readonly #onBytes = (): void => {
    this.#heard = this.#o.env.monotonicNow();
  };

  /**
   * Every interval without a byte from the far side it is asked for one; silent for almost two more, it is gone. With 5 s: dead
   * after at most 14.5 s, and no stall under 9.5 s is taken for it.
   */
  #tick(): void {
    const { env, host } = this.#o;
    const now = env.monotonicNow();
    // A late tick means this side slept (suspend, SIGSTOP): the answer may lie unread in the socket, so ask afresh.
    if (this.#probed !== undefined && now - this.#due > LATE_TICK_MS) this.#probed = now;
    const askedFor = this.#probed === undefined ? 0 : now - Math.max(this.#probed, this.#heard);
    if (askedFor >= host.keepaliveMs * SILENT_INTERVALS) {
      const seconds = Math.round((now - this.#heard) / 1000);
      this.#finish(this.#lost(`the far side has been silent for ${seconds} s`));
      return;
    }
    const quiet = now - this.#heard;
    if (quiet >= host.keepaliveMs && this.#probed === undefined) this.probe().catch(() => {});
    const asked = this.#probed !== undefined;
    const left = asked ? host.keepaliveMs * SILENT_INTERVALS - askedFor : host.keepaliveMs - quiet;
    const next = Math.min(Math.max(left, 1), host.keepaliveMs);
    this.#due = now + next;
    this.#timer = env.schedule(next, () => {
      if (this.#over === undefined) this.#tick();
    });
  }

  #lost(why: string, cause?: unknown): LinkError {
    const hop = cause instanceof LinkError ? (cause.hop ?? this.#o.via) : undefined;
    return new LinkError(`the link to ${this.#o.host.host} was lost: ${why}`, {
      code: 'lost',
      layer: 'tcp',
      hop,
      cause,
    });
  }

  #finish(error: LinkError, o: { cut: boolean } = { cut: true }): void {
    if (this.#over !== undefined) return;
    this.#over = error;
    this.#timer?.[Symbol.dispose]();
    this.#o.socket.removeListener('data', this.#onBytes);
    for (const channel of this.#open) channel.lose(error);
    this.#open.clear();
    if (o.cut) this.#o.socket.destroy();
    this.#closed.resolve(error);
  }
}

function isSession(target: Target): boolean {
  return target.type === 'exec' || target.type === 'subsystem';
}

function requestChannel(
  client: Client,
  target: Target,
  opened: (error: Error | undefined, raw: ClientChannel) => void,
): void {
  switch (target.type) {
    case 'exec':
      client.exec(target.command, opened);
      return;
    case 'subsystem':
      client.subsys(target.name, opened);
      return;
    case 'tcp':
      client.forwardOut('127.0.0.1', 0, target.host, target.port, opened);
      return;
    case 'unix':
      client.openssh_forwardOutStreamLocal(target.path, opened);
  }
}

/** Reasons of RFC 4254 §5.1. sshd uses 2 for a session beyond MaxSessions, and for a forward nobody answers. */
function refusal(target: Target, error: Error & { reason?: unknown }): LinkError {
  const said = error.message.replace(/^\(SSH\) Channel open failure: /, '');
  if (error.reason === 4 || (error.reason === 2 && isSession(target))) {
    return new LinkError(`the far sshd opens no further session on this connection (MaxSessions): ${said}`, {
      code: 'channel-limit',
      layer: 'channel',
      cause: error,
    });
  }
  return new LinkError(refusalText(target, said, error.reason), {
    code: 'channel-refused',
    layer: 'channel',
    cause: error,
  });
}

function refusalText(target: Target, said: string, reason: unknown): string {
  switch (target.type) {
    case 'exec':
      return `the far sshd does not run commands for this user: ${said}`;
    case 'subsystem':
      return `the far sshd has no subsystem ${target.name}: ${said}`;
    case 'tcp': {
      const where = `${target.host}:${target.port}`;
      if (reason === 1) return `the far sshd forbids connections to ${where} (AllowTcpForwarding, PermitOpen): ${said}`;
      return `the far side cannot connect to ${where}: ${said}`;
    }
    case 'unix':
      if (reason === 1) return `the far sshd forbids connections to sockets (AllowStreamLocalForwarding): ${said}`;
      return `the far side cannot connect to ${target.path}: ${said}`;
  }
}

function explain(error: Error & { code?: unknown }): string {
  if (error.code === 'ECONNRESET') return 'the connection was reset';
  if (error.code === 'ETIMEDOUT') return 'the network gave up on it';
  return error.message;
}
