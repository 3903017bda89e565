/** The link does what its phase asks for; which phase comes next is in link-machine.ts alone. */
import { setMaxListeners } from 'node:events';
import {
  type Channel,
  deferred,
  type Link,
  LinkError,
  type LinkState,
  raceAbort,
  type Target,
  type WakeReason,
} from '@postern/core';
import type { Connection } from '../connection.ts';
import type { LinkEvent } from '../event.ts';
import type { RemoteBind, RemoteListener, ReverseAbility } from '../forward/reverse.ts';
import type { ResolvedHost } from '../host/resolved-host.ts';
import { dialConnection, type LinkOptions } from './dialling.ts';
import { FAILOVER_CONNECT_MS, failover } from './failover.ts';
import { type LinkInput, type Phase, step } from './link-machine.ts';
import { asLinkError, closedError, publicState } from './link-state.ts';
import { DEFAULT_MAX_CONNECTIONS, Pool } from './pool.ts';
import { systemView, watchSystem } from './system-watch.ts';
import { watchFault } from './watch-fault.ts';

/** A link whose host may get other settings, or go, without ending what runs. */
export interface HostLink extends Link {
  /** Open now, or being opened, whoever uses them. */
  readonly channels: number;
  /** From now on connections are made as `host` says. Those there are open nothing more, and end with the last of their channels. */
  redirect(host: ResolvedHost): void;
  /** Opens nothing more, and closes when the last channel has ended. */
  retire(): Promise<void>;
}

/**
 * A link to a host: nothing happens until the first `open` or `wake`; from then on it is kept, and redialled whenever it is lost,
 * until `close`. All channels share its connections.
 */
export function createLink(host: ResolvedHost, o: LinkOptions): HostLink {
  return new KeptLink(host, o);
}

/** Longer than any wait for a link, ms. */
const WAIT_MS = Number.MAX_SAFE_INTEGER;

class KeptLink implements HostLink, ReverseAbility {
  readonly host: string;
  #resolved: ResolvedHost;
  readonly #o: LinkOptions;
  readonly #listeners = new Set<(state: LinkState) => void>();
  #phase: Phase = { type: 'idle' };
  #state: LinkState = { type: 'idle' };
  #pool: Pool | undefined;
  /** Pools of the settings there were before. */
  readonly #retired = new Set<Pool>();
  #retiring = false;
  /** Resolves at the next change of phase. */
  #changed = deferred<void>();
  /** Belongs to the present phase, and ends with it. */
  #phaseWork: { dispose(): void } | undefined;
  #checking = false;
  #systemWatch: Disposable | undefined;
  #work = new Set<Promise<unknown>>();

  constructor(host: ResolvedHost, o: LinkOptions) {
    this.host = host.host;
    this.#resolved = host;
    this.#o = o;
  }

  get state(): LinkState {
    const rttMs = this.#pool?.rttMs;
    return this.#state.type === 'up' && rttMs !== undefined ? { type: 'up', rttMs } : this.#state;
  }

  get heardAt(): number | undefined {
    return this.#pool?.heardAt;
  }

  get channels(): number {
    const pools = [...(this.#pool === undefined ? [] : [this.#pool]), ...this.#retired];
    return pools.reduce((sum, { channels }) => sum + channels, 0);
  }

  async open(target: Target, o: { signal: AbortSignal }): Promise<Channel> {
    // One signal may guard many opens: that is no leak for Node to warn of.
    setMaxListeners(0, o.signal);
    for (;;) {
      const pool = await this.#whenUp(o.signal);
      const started = this.#o.env.monotonicNow();
      try {
        const channel = await pool.open(target, o);
        const ms = this.#o.env.monotonicNow() - started;
        this.#emit({ type: 'channel-open', host: this.host, target, ms });
        void channel.exit.then((exit) => this.#emit({ type: 'channel-close', host: this.host, target, exit }));
        return channel;
      } catch (error) {
        // The connection went while the channel was being opened: nothing was written to it, so the next one will do.
        if (o.signal.aborted || !(error instanceof LinkError) || error.code !== 'lost') throw error;
        await raceAbort(Promise.resolve(), o.signal);
      }
    }
  }

  async listenRemote(
    bind: RemoteBind,
    o: { signal: AbortSignal; accept: (channel: Channel) => void },
  ): Promise<RemoteListener> {
    const [connection] = (await this.#whenUp(o.signal)).connections();
    if (connection?.listenRemote !== undefined) return connection.listenRemote(bind, o);
    const message = `the backend of ${this.host} cannot have the far side listen`;
    throw new LinkError(message, { code: 'config', layer: 'channel', fix: 'backend = "ssh2" for this host' });
  }

  wake(why: WakeReason): void {
    this.#dispatch({ type: 'wake', why });
    if (why === 'network') {
      this.#checkConnections(why);
      return;
    }
    if (this.#phase.type === 'up')
      for (const connection of this.#pool?.connections() ?? []) connection.probe().catch(() => {});
  }

  /** The network may have changed: no connection is believed until it answers, and none is ended for being slow. */
  #checkConnections(why: string): void {
    const pool = this.#pool;
    if (this.#phase.type !== 'up' || pool === undefined || this.#checking) return;
    this.#checking = true;
    const done = (): void => {
      this.#checking = false;
    };
    this.#emit({ type: 'probing', host: this.host, why });
    const work = failover({
      env: this.#o.env,
      host: this.host,
      connections: pool.connections(),
      dial: (signal) => this.#dialMore(signal, { connectTimeoutMs: FAILOVER_CONNECT_MS }),
      adopt: (connection) => pool.add(connection),
      signal: pool.ending,
    });
    this.#track(work.finally(done));
  }

  watch(listener: (state: LinkState) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  redirect(host: ResolvedHost): void {
    this.#resolved = host;
    void this.#retirePool();
    this.#dispatch({ type: 'redirected' });
  }

  async retire(): Promise<void> {
    this.#retiring = true;
    await this.#retirePool();
    await this.close();
  }

  async #retirePool(): Promise<void> {
    const pool = this.#pool;
    if (pool === undefined) return;
    this.#pool = undefined;
    this.#retired.add(pool);
    await pool.retire();
    this.#retired.delete(pool);
  }

  async close(): Promise<void> {
    this.#dispatch({ type: 'close' });
    await Promise.allSettled(this.#work);
  }

  /** Dials when nothing is up yet, and waits while it redials. Rejects with the signal's reason, or a permanent fault. */
  async #whenUp(signal: AbortSignal): Promise<Pool> {
    for (;;) {
      signal.throwIfAborted();
      if (this.#retiring) throw closedError(this.host);
      this.#dispatch({ type: 'wanted' });
      const phase = this.#phase;
      if (phase.type === 'closed') throw closedError(this.host);
      if (phase.type === 'down' && phase.error.permanent) throw phase.error;
      if (phase.type === 'up' && this.#pool !== undefined) return this.#pool;
      await this.#whenChanged(signal);
    }
  }

  /** Between two dials nothing else is open, and whoever waits for the link must not find the process gone. */
  async #whenChanged(signal: AbortSignal): Promise<void> {
    using _alive = this.#o.env.schedule(WAIT_MS, () => {}, { keepsAlive: true });
    await raceAbort(this.#changed.promise, signal);
  }

  #emit(event: LinkEvent): void {
    this.#o.onEvent?.(event);
  }

  #dispatch(event: LinkInput): void {
    const before = this.#phase;
    const after = step(before, event, this.#o.env.random());
    if (after === before || (after.type === 'closed' && before.type === 'closed')) return;
    this.#phase = after;
    const sameDial = before.type === 'dialling' && after.type === 'dialling' && before.dial === after.dial;
    if (sameDial) return;
    this.#phaseWork?.dispose();
    this.#phaseWork = undefined;
    this.#enter(after);
    this.#setState(after);
    const { resolve } = this.#changed;
    this.#changed = deferred();
    resolve();
  }

  /** Starts what a phase is there for. */
  #enter(phase: Phase): void {
    if (phase.type !== 'closed') this.#systemWatch ??= this.#startSystemWatch();
    switch (phase.type) {
      case 'dialling':
        this.#startDial(phase.attempt);
        return;
      case 'down':
        this.#waitForRetry(phase);
        return;
      case 'closed': {
        this.#systemWatch?.[Symbol.dispose]();
        if (this.#pool !== undefined) this.#retired.add(this.#pool);
        this.#pool = undefined;
        for (const pool of this.#retired) this.#track(pool.end(closedError(this.host)));
        return;
      }
      case 'idle':
      case 'up':
    }
  }

  #startSystemWatch(): Disposable {
    const { env, view = systemView } = this.#o;
    return watchSystem({
      env,
      view,
      onDisturbance: (what) => {
        this.#dispatch({ type: 'wake', why: 'network' });
        this.#checkConnections(what);
      },
    });
  }

  #setState(phase: Phase): void {
    this.#state = publicState(phase, this.#o.env);
    const state = this.#state;
    if (phase.type === 'down') {
      const retryAt = state.type === 'down' ? state.retryAt : undefined;
      const { host } = this;
      this.#emit({ type: 'down', host, error: phase.error, ...(retryAt === undefined ? {} : { retryAt }) });
    }
    for (const listener of [...this.#listeners]) listener(state);
  }

  #startDial(attempt: number): void {
    const { env } = this.#o;
    const abort = new AbortController();
    this.#phaseWork = { dispose: () => abort.abort(closedError(this.host)) };
    this.#emit({ type: 'dialling', host: this.host, attempt });
    const started = env.monotonicNow();
    this.#track(
      this.#dial(abort.signal).then(
        (connection) => {
          if (abort.signal.aborted) return connection.end();
          return this.#adopt(connection, env.monotonicNow() - started);
        },
        (error: unknown) => {
          if (!abort.signal.aborted) this.#dispatch({ type: 'failed', error: asLinkError(error, this.host) });
        },
      ),
    );
  }

  #adopt(first: Connection, ms: number): void {
    const { env } = this.#o;
    const pool = new Pool({
      env,
      host: this.host,
      maxConnections: this.#o.maxConnections ?? DEFAULT_MAX_CONNECTIONS,
      dialMore: (signal) => this.#dialMore(signal),
      onChange: (size, error) => {
        if (error === undefined || pool !== this.#pool) return;
        if (size > 0) return this.#emit({ type: 'connection-ended', host: this.host, error, connections: size });
        this.#pool = undefined;
        void pool.end();
        this.#dispatch({ type: 'lost', error, stoodMs: env.monotonicNow() - up });
      },
    });
    const up = env.monotonicNow();
    this.#pool = pool;
    this.#emit({ type: 'up', host: this.host, ms, connections: 1 });
    this.#dispatch({ type: 'dialled' });
    pool.add(first);
  }

  /** One more connection beside those of the pool. */
  async #dialMore(signal: AbortSignal, o: { connectTimeoutMs?: number } = {}): Promise<Connection> {
    const { env } = this.#o;
    const started = env.monotonicNow();
    const connection = await this.#dial(signal, o);
    const connections = (this.#pool?.size ?? 0) + 1;
    this.#emit({ type: 'up', host: this.host, ms: env.monotonicNow() - started, connections });
    return connection;
  }

  #dial(signal: AbortSignal, o: { connectTimeoutMs?: number } = {}): Promise<Connection> {
    return dialConnection({ ...this.#resolved, ...o }, { ...this.#o, link: this.host, signal });
  }

  #waitForRetry(phase: Extract<Phase, { type: 'down' }>): void {
    const { env } = this.#o;
    const timer =
      phase.retryInMs === undefined ? undefined : env.schedule(phase.retryInMs, () => this.#dispatch({ type: 'due' }));
    const files = phase.error.permanent
      ? watchFault(this.#resolved, { env, onChange: () => this.#dispatch({ type: 'changed' }) })
      : undefined;
    this.#phaseWork = {
      dispose() {
        timer?.[Symbol.dispose]();
        files?.[Symbol.dispose]();
      },
    };
  }

  #track(work: Promise<unknown>): void {
    this.#work.add(work);
    void work.finally(() => this.#work.delete(work));
  }
}
