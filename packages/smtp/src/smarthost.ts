/** A smarthost is reached over TLS that is verified for its name, and no password leaves before that. */
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import {
  type Channel,
  type Courier,
  type Credentials,
  type Dialogue,
  deadline,
  type Env,
  type Exit,
  LinkError,
  type LinkErrorCode,
  STREAM_WINDOW,
} from '@postern/core';
import { WINDOW_WITHOUT_RECEIPT } from './courier.ts';
import { DeliveryError } from './error.ts';
import type { OnCourierEvent } from './event.ts';
import { createSessions } from './sessions.ts';

/** How long connecting and the TLS handshake may take, milliseconds. */
export const CONNECT_TIMEOUT_MS = 30_000;

/** Where a smarthost is. */
export interface Smarthost {
  readonly host: string;
  readonly port: number;
  /** `implicit`: TLS from the first byte (RFC 8314 §3.3). `starttls`: required before anything else. There is no third. */
  readonly tls: 'implicit' | 'starttls';
  /** The user to log in as; absent for none. */
  readonly user?: string;
}

/** Reads `smtps://[user@]host[:port]` (port 465) or `smtp://[user@]host[:port]` (port 587). Throws `RangeError`. */
export function parseSmarthost(text: string): Smarthost {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['smtps:', 'smtp:'].includes(url.protocol) || url.hostname === '') {
    throw new RangeError('a smarthost is smtps://[user@]host[:port] or smtp://[user@]host[:port]');
  }
  const tls = url.protocol === 'smtps:' ? 'implicit' : 'starttls';
  const port = url.port === '' ? (tls === 'implicit' ? 465 : 587) : Number(url.port);
  const user = url.username === '' ? {} : { user: decodeURIComponent(url.username) };
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port, tls, ...user };
}

/** What {@link createSmarthostCourier} needs. */
export interface SmarthostOptions {
  readonly smarthost: Smarthost;
  /** Asked before each session, when the smarthost has a user. */
  readonly password?: () => Promise<string>;
  /** Certificates (PEM) to trust instead of the system's. */
  readonly ca?: string | readonly string[];
  readonly helo: string;
  readonly dialogue?: Dialogue;
  readonly env: Env;
  readonly onEvent?: OnCourierEvent;
}

/**
 * Makes a courier that delivers to a plain smarthost, over TLS verified for its name. Rejects as {@link createCourier} does; with a `LinkError` (layer
 * `dns` or `tcp`) when the smarthost cannot be reached, and a {@link DeliveryError} `tls` or `auth` that stays until somebody acts.
 */
export function createSmarthostCourier(o: SmarthostOptions): Courier {
  const { smarthost, env, helo } = o;
  const startTls = smarthost.tls === 'starttls';
  const tls: ConnectionOptions = {
    ...(isIP(smarthost.host) === 0 ? { servername: smarthost.host } : {}),
    ...(o.ca === undefined ? {} : { ca: [o.ca].flat() }),
    host: smarthost.host,
    minVersion: 'TLSv1.2',
  };
  const credentials = async (): Promise<Credentials | undefined> => {
    if (smarthost.user === undefined) return undefined;
    if (o.password === undefined) throw new DeliveryError(`no password for ${smarthost.user}`, { code: 'auth' });
    return { user: smarthost.user, password: await o.password() };
  };
  return createSessions({
    ...{ env, onEvent: o.onEvent ?? ((): void => {}), skipNoise: false },
    windows: { receipt: STREAM_WINDOW, none: WINDOW_WITHOUT_RECEIPT },
    async open({ signal }) {
      const socket = await dial(smarthost, { env, signal });
      return socketChannel(startTls ? socket : await secure(socket, { tls, env, signal }));
    },
    async client() {
      const known = await credentials();
      return { helo, dialogue: o.dialogue ?? 'auto', startTls, ...(known === undefined ? {} : { credentials: known }) };
    },
    receiptName: () => undefined,
    receiptRefused() {},
    prepare: async (entry) => entry.envelope.recipients,
    upgrade: (stream, signal) => secure(stream as Socket, { tls, env, signal }),
  });
}

async function dial({ host, port }: Smarthost, o: { env: Env; signal: AbortSignal }): Promise<Socket> {
  const late = (): Error => new LinkError(`${host} does not answer`, { code: 'timeout', layer: 'tcp' });
  using limit = deadline(o.env, CONNECT_TIMEOUT_MS, { parent: o.signal, reason: late });
  const socket = connectTcp({ host, port, noDelay: true });
  await opened(socket, 'connect', limit.signal, (error) => unreachable(error, `${host}:${port}`));
  return socket;
}

async function secure(
  socket: Socket,
  o: { tls: ConnectionOptions; env: Env; signal: AbortSignal },
): Promise<TLSSocket> {
  const { host } = o.tls;
  const late = (): Error => new DeliveryError(`${host} does not finish the TLS handshake`, { code: 'tls' });
  using limit = deadline(o.env, CONNECT_TIMEOUT_MS, { parent: o.signal, reason: late });
  const secured = connectTls({ ...o.tls, socket });
  const failed = (cause: Error): Error =>
    new DeliveryError(`no verified TLS with ${host}: ${cause.message}`, { code: 'tls', cause });
  await opened(secured, 'secureConnect', limit.signal, failed);
  return secured;
}

/** Waits for `event`; an error before it, or the signal, destroys the socket and rejects. */
function opened(
  socket: Socket,
  event: 'connect' | 'secureConnect',
  signal: AbortSignal,
  explain: (error: Error) => Error,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error): void => {
      signal.removeEventListener('abort', onAbort);
      socket.off(event, onOpen).off('error', onError).off('close', onClose);
      socket.on('error', () => {});
      if (error === undefined) resolve();
      else {
        socket.destroy();
        reject(error);
      }
    };
    const onOpen = (): void => settle();
    const onError = (error: Error): void => settle(explain(error));
    const onClose = (): void => settle(explain(new Error('the connection was closed')));
    const onAbort = (): void => settle(signal.reason);
    socket.once(event, onOpen).once('error', onError).once('close', onClose);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
}

const CODES: Readonly<Record<string, LinkErrorCode>> = {
  ENOTFOUND: 'not-found',
  EAI_AGAIN: 'not-found',
  ECONNREFUSED: 'refused',
  ETIMEDOUT: 'timeout',
};

function unreachable(error: NodeJS.ErrnoException, where: string): LinkError {
  const code = CODES[error.code ?? ''] ?? 'unreachable';
  const layer = code === 'not-found' ? 'dns' : 'tcp';
  return new LinkError(`cannot reach ${where}: ${error.message}`, { code, layer, cause: error });
}

/** A socket as a channel. */
function socketChannel(socket: Socket): Channel {
  let lost: LinkError | undefined;
  const exit = new Promise<Exit>((resolve) => {
    socket.once('close', () => resolve(lost === undefined ? { type: 'closed' } : { type: 'lost', error: lost }));
  });
  const abort = (reason: Error): void => {
    lost ??= new LinkError('ended', { code: 'aborted', layer: 'channel', cause: reason });
    socket.destroy(reason);
  };
  const nothing = { [Symbol.dispose]() {} };
  return { stream: socket, exit, stderrTail: () => Buffer.alloc(0), onStderr: () => nothing, signal() {}, abort };
}
