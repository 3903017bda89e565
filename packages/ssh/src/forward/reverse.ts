/** The far side listens: each client over there gets a channel to a local place, or an end. */
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { type Channel, type Env, type Link, LinkError, sleep } from '@postern/core';
import type { OnForwardEvent } from './event.ts';
import { join } from './join.ts';
import { joinSmtp } from './join-smtp.ts';

/** Where the far sshd listens (RFC 4254 §7.1): `host` as `localhost`, an address, or empty for all of them; port 0 lets it choose. */
export interface RemoteBind {
  readonly host: string;
  readonly port: number;
}

/** A far listener. It ends with the connection that asked for it. */
export interface RemoteListener {
  /** The true port. */
  readonly port: number;
  /** Resolves once, when it listens no more. Never rejects. */
  readonly closed: Promise<LinkError>;
  /** Asks the far side to stop; best effort. */
  close(): void;
}

/** What a link that can have the far side listen offers besides. */
export interface ReverseAbility {
  /**
   * Has the far sshd listen, dialling first when needed; `accept` gets a channel for each connection there. Rejects with the signal's reason, or
   * a `LinkError`: `channel-refused` when the far sshd does not (policy, or the port is taken).
   */
  listenRemote(
    bind: RemoteBind,
    o: { signal: AbortSignal; accept: (channel: Channel) => void },
  ): Promise<RemoteListener>;
}

/** Whether this link's backend can have the far side listen. */
export function canListenRemote(link: Link): link is Link & ReverseAbility {
  return 'listenRemote' in link && typeof link.listenRemote === 'function';
}

/** Where connections from afar are taken on this machine. */
export type LocalPlace = { readonly host: string; readonly port: number } | { readonly path: string };

/** What a reverse forward needs. */
export interface ReverseOptions {
  readonly link: Link;
  readonly listen: RemoteBind;
  readonly to: LocalPlace;
  /** SMTP: only recipients in these domains pass. Absent: bytes pass as they are. */
  readonly domains?: readonly string[];
  readonly env: Env;
  readonly onEvent?: OnForwardEvent;
}

/** First and longest wait before a refused listener is asked for again, ms; doubled each time. */
export const REVERSE_RETRY_FIRST_MS = 2_000;
export const REVERSE_RETRY_LONGEST_MS = 60_000;
/** Connections from afar at once. */
export const REVERSE_SESSIONS = 256;

/** A reverse forward at work. */
export interface Reverse extends AsyncDisposable {
  /** The far port, while the far side listens. */
  readonly port: number | undefined;
  /** Ends the far listener and all connections. Resolves when all is over. */
  close(): Promise<void>;
}

/** `ssh -R`, kept: the far listener is asked for at once and again after every redial, until `close`. Throws `LinkError` `config` for a link that cannot. */
export function startReverse(o: ReverseOptions): Reverse {
  const { link } = o;
  if (!canListenRemote(link)) {
    throw new LinkError(`the backend of ${link.host} cannot have the far side listen`, {
      code: 'config',
      layer: 'channel',
      fix: 'backend = "ssh2" for this host',
    });
  }
  return new KeptReverse(link, o);
}

class KeptReverse implements Reverse {
  readonly #link: Link & ReverseAbility;
  readonly #o: ReverseOptions;
  readonly #ending = new AbortController();
  readonly #work = new Set<Promise<void>>();
  readonly #kept: Promise<void>;
  #listener: RemoteListener | undefined;

  constructor(link: Link & ReverseAbility, o: ReverseOptions) {
    this.#link = link;
    this.#o = o;
    this.#kept = this.#keep();
  }

  get port(): number | undefined {
    return this.#listener?.port;
  }

  async close(): Promise<void> {
    this.#listener?.close();
    this.#ending.abort(new Error('the reverse forward was closed'));
    await this.#kept;
    await Promise.all(this.#work);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #keep(): Promise<void> {
    const { signal } = this.#ending;
    for (let refusals = 0; !signal.aborted; ) {
      try {
        const listener = await this.#link.listenRemote(this.#o.listen, {
          signal,
          accept: (channel) => this.#accept(channel),
        });
        refusals = 0;
        await this.#stand(listener);
      } catch (error) {
        if (signal.aborted) return;
        const fault = asLinkError(error, this.#link.host);
        if (fault.code === 'lost') continue;
        refusals += 1;
        await this.#rest(fault, refusals);
      }
    }
  }

  /** While it listens. */
  async #stand(listener: RemoteListener): Promise<void> {
    const { host } = this.#link;
    const listen = `${this.#o.listen.host || '*'}:${listener.port}`;
    this.#listener = listener;
    this.#o.onEvent?.({ type: 'reverse-listening', host, listen });
    const error = await listener.closed;
    this.#listener = undefined;
    if (!this.#ending.signal.aborted) this.#o.onEvent?.({ type: 'reverse-lost', host, listen, error });
  }

  /** After a refusal: a while, or until the link is up anew. A fault of the link that stays is waited for without end. */
  async #rest(error: LinkError, refusals: number): Promise<void> {
    const { signal } = this.#ending;
    const retryInMs = error.permanent
      ? undefined
      : Math.min(REVERSE_RETRY_FIRST_MS * 2 ** (refusals - 1), REVERSE_RETRY_LONGEST_MS);
    const { host } = this.#link;
    const listen = `${this.#o.listen.host || '*'}:${this.#o.listen.port}`;
    const fix = error.fix ?? (error.code === 'channel-refused' ? REFUSED_FIX : undefined);
    this.#o.onEvent?.({
      type: 'reverse-refused',
      host,
      listen,
      error,
      ...(fix === undefined ? {} : { fix }),
      ...(retryInMs === undefined ? {} : { retryInMs }),
    });
    const awake = new AbortController();
    const watch = this.#link.watch((state) => state.type === 'up' && awake.abort());
    const either = AbortSignal.any([signal, awake.signal]);
    try {
      await sleep(this.#o.env, retryInMs ?? Number.MAX_SAFE_INTEGER, either);
    } catch {
      // Awake, or ending: the caller looks.
    } finally {
      watch[Symbol.dispose]();
    }
  }

  #accept(channel: Channel): void {
    if (this.#ending.signal.aborted || this.#work.size >= REVERSE_SESSIONS) {
      channel.abort(new Error('no more connections are taken'));
      return;
    }
    const session = this.#serve(channel).finally(() => this.#work.delete(session));
    this.#work.add(session);
  }

  async #serve(channel: Channel): Promise<void> {
    const { host } = this.#link;
    const { to, domains, onEvent } = this.#o;
    const shown = 'path' in to ? `unix:${to.path}` : `${to.host}:${to.port}`;
    const local = await dialLocal(to, this.#ending.signal).catch((error: Error) => error);
    if (local instanceof Error) {
      onEvent?.({ type: 'reverse-unreachable', host, to: shown, message: local.message });
      await refuse(channel, domains !== undefined);
      return;
    }
    onEvent?.({ type: 'reverse-open', host, to: shown });
    const { signal } = this.#ending;
    const onRefused = (address: string): void => onEvent?.({ type: 'reverse-recipient-refused', host, address });
    const error =
      domains === undefined
        ? await join(local, channel.stream, { signal })
        : await joinSmtp({ client: channel.stream, server: local, domains, onRefused, signal });
    onEvent?.({ type: 'reverse-close', host, to: shown, ...(error === undefined ? {} : { error }) });
  }
}

const REFUSED_FIX =
  'is the port taken over there, perhaps by a dead session of ours (ClientAliveInterval in its sshd_config ends those)? Is AllowTcpForwarding or PermitListen against it?';

function asLinkError(error: unknown, host: string): LinkError {
  if (error instanceof LinkError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new LinkError(`${host}: the far side does not listen: ${message}`, {
    code: 'channel-refused',
    layer: 'channel',
    cause: error,
  });
}

function dialLocal(to: LocalPlace, signal: AbortSignal): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const socket = connect({ ...to, allowHalfOpen: true, signal });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      socket.on('error', () => {});
      resolve(socket);
    });
  });
}

/** A far MTA is told to come again; anything else is cut off. */
async function refuse(channel: Channel, smtp: boolean): Promise<void> {
  if (!smtp) {
    channel.abort(new Error('nothing answers on this machine'));
    return;
  }
  channel.stream.resume();
  channel.stream.end('421 4.4.1 The mail server behind this port does not answer\r\n');
  await channel.exit;
}
