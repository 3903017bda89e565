/** An ImapFlow client over a PREAUTH session: the far side's greeting decides, and no password is ever sent. */
import { deadline, defined, type Env, type Link, LinkError, systemEnv } from '@postern/core';
import { createImapd, type Imapd, type OnImapEvent, type Session } from '@postern/imap';
import { createLink, type ResolveOptions, resolveHost } from '@postern/ssh';
import { ImapFlow, type ImapFlowOptions } from 'imapflow';
import { ConnectImapError } from './errors.ts';
import { SessionSocket } from './socket.ts';

const DEFAULT_CONNECT_TIMEOUT_MS = 30_000;

/** Options of {@link connectImap}. One of `host`, `link` and `imapd` says where the mailbox is. */
export interface ConnectImapOptions {
  /** An SSH host, resolved as ssh would; its link is this client's own and ends with it. */
  readonly host?: string;
  /** How to resolve `host`. */
  readonly resolve?: ResolveOptions;
  /** A link that others use too; it is never closed here. */
  readonly link?: Link;
  /** A far imapd with spares: connecting then costs no round trip. It is never closed here. */
  readonly imapd?: Imapd;
  /** The far command (with `host` or `link`). Absent: looked for. */
  readonly command?: string;
  /** Ends the wait, and later the client. */
  readonly signal?: AbortSignal;
  /** How long a session may take to open, ms. Default 30 s. */
  readonly connectTimeoutMs?: number;
  readonly onEvent?: OnImapEvent;
  readonly env?: Env;
  /** Passed on to ImapFlow: `logger`, `qresync`, `disableAutoIdle`… Without it ImapFlow logs nothing. */
  readonly client?: Omit<Partial<ImapFlowOptions>, 'host' | 'port' | 'auth' | 'secure' | 'transport' | 'proxy'>;
}

const faults = new WeakMap<ImapFlow, LinkError>();

/**
 * A connected ImapFlow whose session is a far imapd in PREAUTH mode, over an SSH link: no local port and no password.
 * Rejects with `LinkError`, `ImapError`, {@link ConnectImapError}, or what ImapFlow's `connect` rejects with. When the
 * link is lost later, its `error` event carries the `LinkError`, commands reject with code `NoConnection`, and {@link
 * linkFault} tells why. An `error` nobody listens to does not end the process.
 */
export async function connectImap(o: ConnectImapOptions): Promise<ImapFlow> {
  const env = o.env ?? systemEnv;
  const timeoutMs = o.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS;
  const own = o.imapd === undefined && o.link === undefined ? await ownLink(o, env) : undefined;
  using limit = deadline(env, timeoutMs, {
    ...defined({ parent: o.signal }),
    reason: () => tooLate(own ?? o.link, timeoutMs),
  });
  try {
    const session = await takeSession(o, { own, env, signal: limit.signal });
    const client = clientOf(session, o, env);
    client.once('close', () => void session.channel.exit.then(() => own?.close()));
    await connected(client, limit.signal);
    endWith(client, o.signal);
    return client;
  } catch (error) {
    await own?.close();
    if (o.signal?.aborted) throw new ConnectImapError('aborted', 'not connected: aborted', { cause: o.signal.reason });
    throw error;
  }
}

/**
 * Why a client of {@link connectImap} lost its connection; undefined while it has it, or when it was closed in order.
 */
export function linkFault(client: ImapFlow): LinkError | undefined {
  return faults.get(client);
}

/** With what the link is at, when that is the reason. */
function tooLate(link: Link | undefined, timeoutMs: number): ConnectImapError {
  const cause = link?.state.type === 'down' ? link.state.error : undefined;
  const why = cause === undefined ? '' : `: ${cause.message}`;
  return new ConnectImapError('timeout', `no session within ${timeoutMs / 1000} s${why}`, { cause });
}

async function ownLink(o: ConnectImapOptions, env: Env): Promise<Link> {
  if (o.host === undefined) throw new TypeError('connectImap needs host, link or imapd');
  return createLink(await resolveHost(o.host, o.resolve ?? {}), { env });
}

async function takeSession(
  o: ConnectImapOptions,
  given: { own: Link | undefined; env: Env; signal: AbortSignal },
): Promise<Session> {
  if (o.imapd !== undefined) return (await o.imapd.take({ signal: given.signal })).session;
  const link = given.own ?? o.link;
  if (link === undefined) throw new TypeError('connectImap needs host, link or imapd');
  await using imapd = createImapd({
    link,
    spare: 0,
    env: given.env,
    ...defined({ command: o.command, onEvent: o.onEvent }),
  });
  return (await imapd.take({ signal: given.signal })).session;
}

function clientOf(session: Session, o: ConnectImapOptions, env: Env): ImapFlow {
  const socket = new SessionSocket(session, env);
  const client = new ImapFlow({
    logger: false,
    ...o.client,
    host: 'localhost',
    port: 143,
    secure: false,
    doSTARTTLS: false,
    transport: {
      connect(_options, onConnect) {
        setImmediate(onConnect);
        return socket;
      },
    },
  });
  socket.on('error', (error) => {
    if (error instanceof LinkError) faults.set(client, error);
  });
  client.on('error', () => {});
  return client;
}

/** Waits for ImapFlow to be ready; when it is not to be, leaves nothing open. */
async function connected(client: ImapFlow, signal: AbortSignal): Promise<void> {
  const onAbort = (): void => client.close();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    signal.throwIfAborted();
    await client.connect();
  } catch (error) {
    client.close();
    throw signal.aborted ? signal.reason : (faults.get(client) ?? error);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function endWith(client: ImapFlow, signal: AbortSignal | undefined): void {
  if (signal === undefined) return;
  const onAbort = (): void => client.close();
  signal.addEventListener('abort', onAbort, { once: true });
  client.once('close', () => signal.removeEventListener('abort', onAbort));
}
