/** A local listener leads to a target over there: every client gets a channel of its own, or an end. */
import type { Server, Socket } from 'node:net';
import { type Admit, type Channel, deadline, type Env, type Link, LinkError, quote, type Target } from '@postern/core';
import type { OnForwardEvent } from './event.ts';
import { cutOff, join } from './join.ts';

/** Longest wait for the link and the far side, ms. */
export const FORWARD_OPEN_MS = 20_000;
/** Connections of one forward at once. */
export const FORWARD_SESSIONS = 1024;

/** What a forward needs. */
export interface ForwardOptions {
  /** Listens, or is about to; made with `allowHalfOpen`. Stays the caller's. */
  readonly server: Server;
  readonly link: Link;
  /** Where each connection leads. */
  readonly to: Target;
  readonly env: Env;
  /** Judges each peer; only `open` comes in, since a raw stream has no place for a password. Absent: everybody does. */
  readonly admit?: Admit;
  readonly onEvent?: OnForwardEvent;
}

/** A forward at work. */
export interface Forward extends AsyncDisposable {
  /** Connections now joined or being opened. */
  readonly sessions: number;
  /** Takes no more connections, and ends those there are when `signal` aborts, or at once without one. Resolves when all have ended. */
  close(o?: { signal?: AbortSignal }): Promise<void>;
}

/** `ssh -L`: each connection to `server` is joined to a channel of its own. */
export function startForward(o: ForwardOptions): Forward {
  const ending = new AbortController();
  const work = new Set<Promise<void>>();
  const onConnection = (socket: Socket): void => {
    socket.on('error', () => {});
    if (work.size >= FORWARD_SESSIONS) {
      cutOff(socket);
      o.onEvent?.({
        type: 'forward-denied',
        host: o.link.host,
        reason: `${FORWARD_SESSIONS} connections are open already`,
      });
      return;
    }
    const session = serve(socket, o, ending.signal).finally(() => work.delete(session));
    work.add(session);
  };
  o.server.on('connection', onConnection);
  const close = async (how: { signal?: AbortSignal } = {}): Promise<void> => {
    o.server.off('connection', onConnection);
    const end = (): void => ending.abort(new Error('the forward was closed'));
    if (how.signal === undefined || how.signal.aborted) end();
    else how.signal.addEventListener('abort', end, { once: true });
    await Promise.all(work);
    how.signal?.removeEventListener('abort', end);
  };
  return {
    get sessions() {
      return work.size;
    },
    close,
    [Symbol.asyncDispose]: () => close(),
  };
}

async function serve(socket: Socket, o: ForwardOptions, signal: AbortSignal): Promise<void> {
  const { host } = o.link;
  const admission = await o.admit?.(socket);
  if (admission !== undefined && admission.type !== 'open') {
    cutOff(socket);
    const reason = admission.type === 'refused' ? admission.reason : 'a forward has no place for a password';
    o.onEvent?.({ type: 'forward-denied', host, reason });
    return;
  }
  const channel = await open(socket, o, signal);
  if (channel === undefined) return;
  o.onEvent?.({ type: 'forward-open', host, target: o.to });
  // Ended over there means that nothing more is taken either, whatever the peer still has to say.
  void channel.exit.then(() => {
    if (socket.writableFinished) socket.destroy();
    else socket.once('finish', () => socket.destroy());
  });
  await join(socket, channel.stream, { signal });
  const exit = await channel.exit;
  o.onEvent?.({ type: 'forward-close', host, target: o.to, exit, stderr: channel.stderrTail().toString('utf8') });
}

/** The channel for a peer, or undefined when there is none: then the peer is cut off, which no client takes for an empty answer. */
async function open(socket: Socket, o: ForwardOptions, signal: AbortSignal): Promise<Channel | undefined> {
  const limit = deadline(o.env, FORWARD_OPEN_MS, { parent: signal, reason: () => notInTime(o) });
  const gone = new AbortController();
  const onClose = (): void => gone.abort(new Error('the peer hung up'));
  socket.once('close', onClose);
  try {
    return await o.link.open(o.to, { signal: AbortSignal.any([limit.signal, gone.signal]) });
  } catch (error) {
    cutOff(socket);
    if (error instanceof LinkError) {
      const fix = error.fix ?? remedy(error, o.to);
      const told = { type: 'forward-refused', host: o.link.host, target: o.to, error } as const;
      o.onEvent?.(fix === undefined ? told : { ...told, fix });
    }
    return undefined;
  } finally {
    socket.off('close', onClose);
    limit[Symbol.dispose]();
  }
}

function notInTime(o: ForwardOptions): LinkError {
  const { state, host } = o.link;
  if (state.type === 'down') return state.error;
  return new LinkError(`${host} was not reached within ${FORWARD_OPEN_MS / 1000} s`, {
    code: 'timeout',
    layer: 'channel',
  });
}

/** Where forwarding is forbidden, a command over there is not (sshd_config(5), AllowTcpForwarding). */
function remedy(error: LinkError, to: Target): string | undefined {
  if (error.code !== 'channel-refused') return undefined;
  if (to.type === 'unix') {
    // OpenSSH 9.2 gives one answer for a socket that is not there and for one it may not forward to.
    const command = JSON.stringify(`netcat -U ${quote(to.path)}`);
    return `if the socket is there, AllowStreamLocalForwarding may be off; a command gets there all the same:  to = ${command}`;
  }
  // RFC 4254 §5.1: SSH_OPEN_ADMINISTRATIVELY_PROHIBITED.
  const forbidden =
    (error.cause as { reason?: unknown } | undefined)?.reason === 1 || /forbid|prohibited/i.test(error.message);
  if (to.type !== 'tcp' || !forbidden) return undefined;
  return `let a command connect instead:  to = ${JSON.stringify(`netcat ${quote(to.host)} ${to.port}`)}`;
}
