/** One authenticated ssh2 connection, and what runs in it. */
import type { Duplex } from 'node:stream';
import { type Channel, deadline, deferred, type Env, LinkError, raceAbort, type Target } from '@postern/core';
import type { Client, ClientChannel } from 'ssh2';
import type { Connection, ConnectionLimits } from '../../connection.ts';
import type { RemoteBind, RemoteListener } from '../../forward/reverse.ts';
import type { ResolvedHost } from '../../host/resolved-host.ts';
import { Liveness } from '../../liveness.ts';
import { Ssh2Channel } from './channel.ts';
import { ping, rekey } from './internals.ts';
import { lendReads } from './lending.ts';
import { listenRemote } from './listen.ts';
import { reusePackets } from './packets.ts';
import type { ReadBuffer } from './read-buffer.ts';
import { explain, isSession, refusal, requestChannel } from './request.ts';
import { growWindows, type Windows } from './window.ts';

/** What a connection needs to know. */
export interface Ssh2ConnectionOptions {
  readonly env: Env;
  readonly host: ResolvedHost;
  /** The socket under the client. */
  readonly socket: Duplex;
  /** What the socket reads into, where that is ours to say. */
  readonly reads?: ReadBuffer | undefined;
  readonly openTimeoutMs: number;
  /** The jump host whose channel the socket is. */
  readonly via?: string | undefined;
  readonly limits: ConnectionLimits;
  readonly onRekey?: () => void;
  /** How to ask for a sign of life. Default `keepalive@openssh.com`. */
  readonly ping?: typeof ping;
  /** How to part in order. Default an SSH disconnect. */
  readonly goodbye?: () => void;
  /** What is known of the connection's end beside the socket's. */
  readonly lastWords?: () => string;
}

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
  /** Ends the opens under way: ssh2 leaves them until its socket is gone. */
  readonly #waiting = new Set<(error: LinkError) => void>();
  #opening = 0;
  #openingSessions = 0;
  #over: LinkError | undefined;
  readonly #liveness: Liveness;
  readonly #windows: Windows;
  /** Since the last key exchange: bytes both ways, and when it was, monotonic ms. */
  #keyBytes = 0;
  #keyedAt: number;

  constructor(client: Client, o: Ssh2ConnectionOptions) {
    this.#client = client;
    this.#o = o;
    this.closed = this.#closed.promise;
    this.#keyedAt = o.env.monotonicNow();
    this.#gone = new Promise((resolve) => o.socket.once('close', () => resolve()));
    const hungUp = (): void => this.#finish(this.#lost(o.lastWords?.() || 'the far side closed the connection'));
    client.on('error', (error: Error) => this.#finish(this.#lost(explain(error), error)));
    client.on('end', hungUp);
    client.on('close', hungUp);
    this.#liveness = new Liveness({
      env: o.env,
      intervalMs: o.host.keepaliveMs,
      ask: (answered) => (o.ping ?? ping)(client, answered),
      onSilent: (ms) => this.#finish(this.#lost(`the far side has been silent for ${Math.round(ms / 1000)} s`)),
      onTick: () => this.#rekeyWhenDue(),
    });
    this.#windows = growWindows(client, {
      ...o.limits,
      env: o.env,
      rttMs: () => this.#liveness.leastRttMs,
      reads: o.reads,
    });
    if (o.reads !== undefined) lendReads(client, o.reads);
    reusePackets(client, o.socket);
    client.on('handshake', () => {
      this.#keyBytes = 0;
      this.#keyedAt = o.env.monotonicNow();
      o.onRekey?.();
    });
    o.socket.on('data', this.#onBytes);
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
    return this.#liveness.rttMs;
  }

  get heardAt(): number {
    return this.#liveness.heardAt;
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
      this.#waiting.add(reject);
      const opened = (error: Error | undefined, raw: ClientChannel): void => {
        this.#waiting.delete(reject);
        if (error === undefined) resolve(this.#adopt(raw, target));
        else reject(this.#over ?? refusal(target, error));
      };
      try {
        requestChannel(this.#client, target, opened);
      } catch (error) {
        // exec() on a dead client throws synchronously.
        this.#waiting.delete(reject);
        reject(this.#over ?? this.#lost('the connection is closed', error));
      }
    });
  }

  #adopt(raw: ClientChannel, target: Target): Ssh2Channel {
    const channel = new Ssh2Channel(raw, {
      target,
      env: this.#o.env,
      onRead: () => this.#windows.consumed(raw),
      onRelease: (chunk) => this.#o.reads?.release(chunk),
      onWrite: (bytes) => this.#count(bytes),
    });
    this.#open.add(channel);
    raw.stderr.on('close', () => {
      this.#open.delete(channel);
      this.#windows.release(raw);
    });
    if (this.#over !== undefined) channel.lose(this.#over);
    return channel;
  }

  probe(): Promise<number> {
    return this.#over === undefined ? this.#liveness.probe() : Promise.reject(this.#over);
  }

  end(error?: LinkError): Promise<void> {
    if (this.#over !== undefined) return this.#gone;
    const { socket, env } = this.#o;
    if (this.#o.goodbye === undefined) this.#client.end();
    else this.#o.goodbye();
    const cut = env.schedule(GOODBYE_MS, () => socket.destroy());
    void this.#gone.then(() => cut[Symbol.dispose]());
    this.#finish(
      error ?? new LinkError('the connection was closed from this side', { code: 'aborted', layer: 'channel' }),
      { cut: false },
    );
    return this.#gone;
  }

  readonly #onBytes = (chunk: Buffer): void => {
    this.#liveness.heard();
    this.#count(chunk.length);
  };

  #count(bytes: number): void {
    this.#keyBytes += bytes;
    if (this.#keyBytes >= this.#o.limits.rekeyBytes) this.#rekeyWhenDue();
  }

  /** ssh2 1.17.0 never asks for new keys itself (RFC 4253 §9: after each gigabyte or hour). */
  #rekeyWhenDue(): void {
    const { env, limits } = this.#o;
    const isDue = this.#keyBytes >= limits.rekeyBytes || env.monotonicNow() - this.#keyedAt >= limits.rekeyMs;
    if (!isDue || this.#over !== undefined) return;
    this.#keyBytes = 0;
    this.#keyedAt = env.monotonicNow();
    rekey(this.#client);
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
    this.#liveness.stop(error);
    this.#o.socket.removeListener('data', this.#onBytes);
    for (const channel of this.#open) channel.lose(error);
    this.#open.clear();
    for (const reject of this.#waiting) reject(error);
    this.#waiting.clear();
    if (o.cut) this.#o.socket.destroy();
    this.#closed.resolve(error);
  }
}
