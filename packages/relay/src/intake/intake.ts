import type { Server, Socket } from 'node:net';
import {
  type Admission,
  type Admit,
  type Direct,
  type Env,
  type ForwardPath,
  type Reply,
  type ReversePath,
  replyClass,
  replyText,
  type SpoolWriter,
} from '@postern/core';
import type { SMTPServerOptions, SMTPServerSession } from 'smtp-server';
import type { OnRelayEvent } from '../event.ts';
import { type CompiledRoutes, type Route, routeKey } from '../route/routes.ts';
import { CutThrough } from './cut-through.ts';
import { envelopeOf, type Guest, pass, recipientOf, take } from './receive.ts';
import {
  type IntakeTls,
  lacksSmtputf8,
  type PathCommand,
  type Refusal,
  replyError,
  type Session,
  SessionServer,
  secure,
} from './smtp-session.ts';

/** Largest message when nothing else is said, octets. */
export const SIZE_LIMIT: number = 100 * 1024 * 1024;
/** Recipients of one message (RFC 5321 §4.5.3.1.8 wants 100 at least); 452 4.5.3 after. */
export const MAX_RECIPIENTS = 10_000;
/** Sessions at once; 421 after. */
export const MAX_SESSIONS = 1024;
/** Silence of a client after which its session ends (RFC 5321 §4.5.3.2.7), milliseconds. */
const CLIENT_TIMEOUT_MS = 5 * 60_000;
/** How long close() lets messages finish that are on their way, milliseconds. */
const DRAIN_MS = 5_000;

/** Options of an intake. */
export interface IntakeOptions {
  /** Where clients come from; made with `allowHalfOpen`. The caller makes it listen and closes it. */
  readonly server: Server;
  readonly spool: SpoolWriter;
  /** The routes as they are now; asked at every RCPT. */
  readonly routes: () => CompiledRoutes;
  readonly admit: Admit;
  /** Our name in the greeting, `Received:` and Message-ID. */
  readonly hostname: string;
  /** Octets; {@link SIZE_LIMIT} when absent. */
  readonly sizeLimit?: number;
  /** What passes mail of routes with `queue: false` straight through; undefined, or no function, where nothing does. */
  readonly directFor?: (route: Route) => Direct | undefined;
  /** Asked for by a client's ETRN (RFC 1985), which is offered with it. */
  readonly onQueueRun?: () => void;
  /** Absent: in plain. With `starttls` nothing that matters is taken before it. */
  readonly tls?: IntakeTls;
  readonly env: Env;
  readonly onEvent?: OnRelayEvent;
}

/** A running intake. */
export interface Intake {
  /** Sessions open now. */
  readonly sessions: number;
  /** Takes no new sessions; those there are go on. */
  stop(): void;
  /** Ends: sessions at rest are told 421, messages under way get `graceMs` (5 s), a message that is being committed always gets its reply. */
  close(o?: { graceMs?: number }): Promise<void>;
}

/** Takes mail from the connections of `server` into `spool`. Never throws at a client's doing; faults of ours are answered 451. */
export function createIntake(o: IntakeOptions): Intake {
  const guests = new Map<SMTPServerSession, Guest>();
  const pending = new Set<Socket>();
  const onEvent = o.onEvent ?? (() => {});
  let closing = false;
  let onIdle: (() => void) | undefined;
  const handlers = makeHandlers({ ...o, onEvent, sizeLimit: o.sizeLimit ?? SIZE_LIMIT }, guests, settle);
  const servers = { open: sessionServer(true), password: sessionServer(false) };

  function settle(): void {
    if (!closing) return;
    for (const guest of guests.values()) if (guest.message === undefined) guest.session.close();
    if (![...guests.values()].some((guest) => guest.message !== undefined)) onIdle?.();
  }

  function sessionServer(authOptional: boolean): SessionServer {
    const admissions = new WeakMap<Socket, Guest['admission']>();
    const onSession = (session: Session, socket: Socket): void => {
      const admission = admissions.get(socket);
      if (admission === undefined) return void socket.destroy();
      session.onQueueRun = o.onQueueRun;
      guests.set(session.session, {
        session,
        peer: peerOf(socket),
        admission,
        transaction: undefined,
        message: undefined,
        committing: false,
      });
    };
    // Not the socket's own event: STARTTLS takes the listeners of the plain socket away.
    const onClose = (session: SMTPServerSession): void => {
      guests.get(session)?.transaction?.cut?.close();
      guests.delete(session);
      settle();
    };
    const options = { ...serverOptions(o), ...handlers, authOptional, onClose };
    const server = new SessionServer(options, { tls: o.tls, onSession });
    // Without a listener an aborted connection would end the process.
    server.on('error', () => {});
    return Object.assign(server, { admissions });
  }

  function enter(socket: Socket, admission: Admission): void {
    if (socket.destroyed) return;
    if (admission.type === 'refused' || closing) {
      if (admission.type === 'refused')
        onEvent({ type: 'connection-refused', peer: peerOf(socket), reason: admission.reason });
      socket.destroy();
      return;
    }
    if (guests.size >= MAX_SESSIONS) {
      socket.end(`421 4.3.2 ${o.hostname} has too many sessions\r\n`);
      return;
    }
    const server = admission.type === 'open' ? servers.open : servers.password;
    (server as SessionServer & { admissions: WeakMap<Socket, Admission> }).admissions.set(socket, admission);
    server.connect(socket);
  }

  function arrive(socket: Socket): void {
    const ignore = (): void => {};
    socket.on('error', ignore);
    if (closing) return void socket.destroy();
    pending.add(socket);
    void o
      .admit(socket)
      .catch((error: unknown): Admission => ({ type: 'refused', reason: String(error) }))
      .then(async (admission) => {
        const refused = admission.type === 'refused' || closing;
        const stream =
          o.tls?.mode === 'implicit' && !refused ? await secure(socket, { tls: o.tls, env: o.env }) : socket;
        pending.delete(socket);
        if (stream !== undefined) enter(stream, admission);
      });
  }

  o.server.on('connection', arrive);
  const stop = (): void => void o.server.off('connection', arrive);
  return {
    get sessions() {
      return guests.size;
    },
    stop,
    async close({ graceMs = DRAIN_MS } = {}) {
      closing = true;
      for (const socket of pending) socket.destroy();
      for (const guest of guests.values()) {
        guest.session.draining = true;
        if (guest.message === undefined) guest.session.send(421, '4.3.2 Shutting down, try again in a moment');
      }
      const timer = o.env.schedule(graceMs, () => {
        for (const guest of guests.values()) {
          if (guest.message === undefined || guest.committing) continue;
          guest.message.abort(new Error('shutting down'));
          guest.session._socket.destroy();
        }
      });
      await new Promise<void>((resolve) => {
        onIdle = resolve;
        settle();
      });
      timer[Symbol.dispose]();
      stop();
      o.server.on('connection', (socket: Socket) => socket.destroy());
    },
  };
}

function peerOf({ remoteAddress, remotePort }: Socket): string {
  return remoteAddress === undefined ? 'unix' : `${remoteAddress}:${remotePort}`;
}

function serverOptions(o: IntakeOptions): SMTPServerOptions {
  return {
    name: o.hostname,
    banner: 'Postern',
    heloResponse: '%s',
    size: o.sizeLimit ?? SIZE_LIMIT,
    hideDSN: false,
    hideENHANCEDSTATUSCODES: false,
    hideSTARTTLS: o.tls?.mode !== 'starttls',
    // RFC 8689 binds every hop; far sides are not asked for it.
    hideREQUIRETLS: true,
    allowInsecureAuth: true,
    disableReverseLookup: true,
    maxRecipients: MAX_RECIPIENTS,
    socketTimeout: CLIENT_TIMEOUT_MS,
    disabledCommands: [
      ...(o.tls?.mode === 'starttls' ? [] : ['STARTTLS']),
      'XCLIENT',
      'XFORWARD',
      'WIZ',
      'SHELL',
      'KILL',
    ],
    logger: false,
  };
}

type Handlers = Required<Pick<SMTPServerOptions, 'onAuth' | 'onMailFrom' | 'onRcptTo' | 'onData'>>;

function makeHandlers(
  o: IntakeOptions & { onEvent: OnRelayEvent; sizeLimit: number },
  guests: Map<SMTPServerSession, Guest>,
  onSettled: () => void,
): Handlers {
  const refuse = (
    session: SMTPServerSession,
    { code, text }: Refusal,
    callback: (error: Error) => void,
    { path, peer = guests.get(session)?.peer ?? '' }: { path?: string; peer?: string } = {},
  ): void => {
    const about = path === undefined ? {} : { path };
    o.onEvent({ type: 'rejected', session: session.id, peer, code, text, ...about });
    callback(replyError({ code, text }));
  };
  const answer = ({ session }: Guest, reply: Reply, callback: (error: Error | null) => void, about = {}): void => {
    session.farReply = reply;
    if (replyClass(reply) === 2) callback(null);
    else refuse(session.session, { code: reply.code, text: replyText(reply).slice(4) }, callback, about);
  };
  return {
    onAuth(auth, session, callback) {
      const admission = guests.get(session)?.admission;
      if (admission?.type === 'open' || admission?.verify(auth.password ?? '')) return callback(null, { user: true });
      o.onEvent({ type: 'auth-failed', session: session.id, peer: guests.get(session)?.peer ?? '' });
      callback(replyError({ code: 535, text: '5.7.8 This is not the local password (see: postern password)' }));
    },
    onMailFrom(address, session, callback) {
      const { path, given, parameters, refusal } = address as PathCommand;
      const no = (why: Refusal): void => refuse(session, why, callback, { path: given });
      const guest = guests.get(session);
      if (refusal !== undefined) return no(refusal);
      if (guest === undefined) return no({ code: 451, text: '4.3.0 Session is gone' });
      const smtputf8 = parameters.has('SMTPUTF8');
      if (lacksSmtputf8(path, smtputf8)) {
        return no({ code: 553, text: '5.6.7 This address needs SMTPUTF8' });
      }
      guest.transaction?.cut?.close();
      const from = path as ReversePath;
      guest.transaction = { from, parameters, smtputf8, recipients: new Map(), cut: undefined };
      // smtp-server 3.21.6 forgets the next message when all of MAIL, RCPT and DATA behind a pipelined message are answered in one turn.
      setImmediate(callback);
    },
    onRcptTo(address, session, callback) {
      const { path, given, parameters, refusal } = address as PathCommand;
      const no = (why: Refusal): void => refuse(session, why, callback, { path: given });
      const guest = guests.get(session);
      const transaction = guest?.transaction;
      if (refusal !== undefined) return no(refusal);
      if (transaction === undefined) return no({ code: 503, text: '5.5.1 Need MAIL first' });
      if (lacksSmtputf8(path, transaction.smtputf8)) {
        return no({ code: 553, text: '5.6.7 This address needs SMTPUTF8' });
      }
      if (transaction.recipients.size >= MAX_RECIPIENTS) {
        return no({ code: 452, text: '4.5.3 Too many recipients' });
      }
      const to = path as ForwardPath;
      const taken = o.routes().take(to, transaction.from);
      if (taken === undefined) return no({ code: 550, text: '5.7.1 No route takes this recipient' });
      const recipient = recipientOf(to, parameters);
      const key = taken.route.queue === false ? routeKey(taken.route) : undefined;
      if (transaction.recipients.size > 0 && transaction.cut?.key !== key) {
        const text = '4.5.3 This recipient goes another way: in a transaction of its own, please';
        return no({ code: 452, text });
      }
      if (transaction.cut !== undefined && transaction.cut.key !== key) {
        transaction.cut.close();
        transaction.cut = undefined;
      }
      if (key === undefined) {
        transaction.recipients.set(to, recipient);
        return callback();
      }
      transaction.cut ??= new CutThrough(taken.route, o.directFor?.(taken.route));
      const size = transaction.parameters.get('SIZE');
      void transaction.cut
        .rcpt(envelopeOf(transaction), { recipient, size: size === undefined ? undefined : Number(size) })
        .then((reply) => {
          if (guest === undefined || !guests.has(session)) return;
          if (replyClass(reply) === 2) transaction.recipients.set(to, recipient);
          answer(guest, reply, callback, { path: given });
        });
    },
    onData(stream, session, callback) {
      const guest = guests.get(session);
      if (guest?.transaction === undefined) return callback(replyError({ code: 451, text: '4.3.0 Session is gone' }));
      guest.message = new AbortController();
      const { transaction } = guest;
      const taking: Promise<string | Reply | Refusal> =
        transaction.cut === undefined ? take(o, guest, stream) : pass(o, guest, stream);
      void taking.then((result) => {
        transaction.cut?.close();
        guest.message = undefined;
        guest.transaction = undefined;
        guest.committing = false;
        // What is left of a refused message is read and dropped; smtp-server replies after its last octet.
        stream.resume();
        if (typeof result === 'string') callback(null, result);
        else if ('lines' in result) answer(guest, result, callback);
        else refuse(session, result, callback, { peer: guest.peer });
        if (guest.session.draining) setImmediate(onSettled);
      });
    },
  };
}
