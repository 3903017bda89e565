/** The connections of one link: as many as its channels need, and no session is asked for where the far side has refused one. */
import { setMaxListeners } from 'node:events';
import { type Channel, type Env, LinkError, raceAbort, sleep, type Target } from '@postern/core';
import type { Connection } from '../connection.ts';

/** Connections a link may have to one host, when MaxSessions makes it need several. */
export const DEFAULT_MAX_CONNECTIONS = 16;
/** How long a further connection is kept without a channel, ms. */
export const SPARE_CONNECTION_IDLE_MS = 30_000;

/** How often a retired pool looks which of its connections have no channel any more, ms. */
const RETIRED_LOOK_MS = 1_000;

/** How long a connection refuses sessions after its last channel has ended, before it is asked again, ms. */
const LINGER_MS = 2_000;

/** What a pool tells its link. */
export interface PoolOptions {
  readonly env: Env;
  readonly host: string;
  readonly maxConnections: number;
  /** Dials one more connection. The pool never asks for two at a time, so sshd's MaxStartups is not reached by it. */
  dialMore(signal: AbortSignal): Promise<Connection>;
  /** A connection joined or left; `error` says why it left. */
  onChange(size: number, error: LinkError | undefined): void;
}

interface Member {
  readonly connection: Connection;
  readonly since: number;
  /** The far sshd refused a session here; until one ends there is no use in asking again. */
  full: boolean;
  /** A channel was opened here. */
  used: boolean;
  /** When a channel last ended here, monotonic ms: the far side may still count it. */
  endedAt: number;
  idle: Disposable | undefined;
}

/** The connections of a link that is up. The first one is kept; further ones are given back when idle. */
export class Pool {
  readonly #o: PoolOptions;
  readonly #members = new Set<Member>();
  readonly #ending = new AbortController();
  /** Sessions the far sshd allows on one connection (MaxSessions), once it has refused one; each refusal is a line in its log. */
  #allowed = Number.POSITIVE_INFINITY;
  #growing: Promise<void> | undefined;

  constructor(o: PoolOptions) {
    this.#o = o;
    setMaxListeners(0, this.#ending.signal);
  }

  /** Aborts when the pool ends. */
  get ending(): AbortSignal {
    return this.#ending.signal;
  }

  get size(): number {
    return this.#members.size;
  }

  /** Channels of all connections. */
  get channels(): number {
    return this.connections().reduce((sum, { channels }) => sum + channels, 0);
  }

  /** All connections, oldest first. */
  connections(): Connection[] {
    return [...this.#members].map((member) => member.connection);
  }

  /** The least round trip measured, ms. */
  get rttMs(): number | undefined {
    const measured = this.connections().flatMap(({ rttMs }) => (rttMs === undefined ? [] : [rttMs]));
    return measured.length === 0 ? undefined : Math.min(...measured);
  }

  /** When the connection that has been silent longest was last heard, monotonic ms. */
  get heardAt(): number | undefined {
    const heard = this.connections().flatMap(({ heardAt }) => (heardAt === undefined ? [] : [heardAt]));
    return heard.length === 0 ? undefined : Math.min(...heard);
  }

  add(connection: Connection): void {
    const member: Member = {
      connection,
      since: this.#o.env.monotonicNow(),
      full: false,
      used: false,
      endedAt: -LINGER_MS,
      idle: undefined,
    };
    this.#members.add(member);
    this.#o.onChange(this.size, undefined);
    void connection.closed.then((error) => {
      member.idle?.[Symbol.dispose]();
      if (this.#members.delete(member)) this.#o.onChange(this.size, error);
    });
  }

  /** How long the oldest connection has stood, ms. */
  stoodMs(): number {
    const [oldest] = this.#members;
    return oldest === undefined ? 0 : this.#o.env.monotonicNow() - oldest.since;
  }

  /**
   * Opens a channel on a connection with room, dialling another when none has. Rejects as `Connection.open` does; with
   * `channel-limit` when no further connection may or can be made.
   */
  async open(target: Target, o: { signal: AbortSignal }): Promise<Channel> {
    for (;;) {
      const member = this.#pick(target);
      if (member === undefined) {
        await this.#grow(o.signal);
        continue;
      }
      try {
        const channel = await member.connection.open(target, o);
        member.used = true;
        void channel.exit.then(() => {
          member.full = false;
          member.endedAt = this.#o.env.monotonicNow();
          this.#rest(member);
        });
        return channel;
      } catch (error) {
        this.#rest(member);
        if (!(error instanceof LinkError) || error.code !== 'channel-limit') throw error;
        this.#markFull(member, error);
      }
    }
  }

  /** Ends each connection once it has no channel, at once where there is none. Resolves when all are gone. Never rejects. */
  async retire(): Promise<void> {
    const message = `the settings of ${this.#o.host} have changed`;
    while (this.size > 0 && !this.#ending.signal.aborted) {
      const free = this.connections().filter(({ channels }) => channels === 0);
      // `lost`: who asks for a channel just now asks the next connection.
      await Promise.all(free.map((one) => one.end(new LinkError(message, { code: 'lost', layer: 'tcp' }))));
      if (this.size > 0) await sleep(this.#o.env, RETIRED_LOOK_MS, this.#ending.signal).catch(() => {});
    }
  }

  /** Ends all connections. Resolves when their sockets are gone. */
  async end(error?: LinkError): Promise<void> {
    this.#ending.abort();
    await Promise.all(this.connections().map((connection) => connection.end(error)));
  }

  /** Refused with none open: either no connection will be given any (MaxSessions 0), or commands of closed channels linger there. */
  #markFull(member: Member, error: LinkError): void {
    if (member.connection.sessions === 0) {
      if (!member.used) throw error;
      this.#o.env.schedule(LINGER_MS, () => {
        member.full = false;
      });
    }
    const { sessions } = member.connection;
    const settled = this.#o.env.monotonicNow() - member.endedAt >= LINGER_MS;
    if (sessions > 0 && settled) this.#allowed = Math.min(this.#allowed, sessions);
    member.full = true;
  }

  #pick(target: Target): Member | undefined {
    for (const member of this.#members) {
      const full = member.full || member.connection.sessions >= this.#allowed;
      if (isSession(target) && full) continue;
      member.idle?.[Symbol.dispose]();
      member.idle = undefined;
      return member;
    }
    return undefined;
  }

  #grow(signal: AbortSignal): Promise<void> {
    if (this.#members.size === 0) throw new LinkError('the link was lost', { code: 'lost', layer: 'tcp' });
    if (this.#members.size >= this.#o.maxConnections) {
      const message = `${this.#o.host}: all ${this.#members.size} connections are full (MaxSessions of its sshd)`;
      throw new LinkError(message, { code: 'channel-limit', layer: 'channel' });
    }
    this.#growing ??= this.#dialOne().finally(() => {
      this.#growing = undefined;
    });
    return raceAbort(this.#growing, signal);
  }

  async #dialOne(): Promise<void> {
    try {
      const connection = await this.#o.dialMore(this.#ending.signal);
      if (this.#ending.signal.aborted) await connection.end();
      else this.add(connection);
    } catch (cause) {
      const message = `${this.#o.host}: no further connection could be made for more sessions than its sshd allows on one`;
      throw new LinkError(message, { code: 'channel-limit', layer: 'channel', cause });
    }
  }

  /** Gives a further connection back once it has been idle. The oldest stays. */
  #rest(member: Member): void {
    const [oldest] = this.#members;
    if (member === oldest || member.connection.channels > 0) return;
    member.idle?.[Symbol.dispose]();
    member.idle = this.#o.env.schedule(SPARE_CONNECTION_IDLE_MS, () => {
      if (member.connection.channels === 0) void member.connection.end();
    });
  }
}

/** What counts against MaxSessions (sshd_config(5)). */
function isSession({ type }: Target): boolean {
  return type === 'exec' || type === 'subsystem';
}
