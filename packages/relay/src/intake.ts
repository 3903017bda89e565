import type { Server, Socket } from 'node:net';
import {
  type Admission,
  type Admit,
  createMessageChecker,
  describeFault,
  type Env,
  type Envelope,
  type ForwardPath,
  newEntryId,
  type Recipient,
  type ReversePath,
  SpoolError,
  type SpoolWriter,
} from '@postern/core';
import type { SMTPServerDataStream, SMTPServerOptions, SMTPServerSession } from 'smtp-server';
import type { OnRelayEvent } from './event.ts';
import type { CompiledRoutes } from './routes.ts';
import {
  type IntakeTls,
  lacksSmtputf8,
  notifyOf,
  type PathCommand,
  type Refusal,
  replyError,
  type Session,
  SessionServer,
  secure,
} from './session.ts';
import { withTrace } from './trace.ts';

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
  /** Absent: in plain. With `starttls` nothing that matters is taken before it. */
  readonly tls?: IntakeTls;
  readonly env: Env;
  readonly onEvent?: OnRelayEvent;
}

/** A running intake. */
export interface Intake {
  /** Sessions open now. */
  readonly sessions: number;
  /** Ends: sessions at rest are told 421, messages under way get `graceMs` (5 s), a message that is being committed always gets its reply. */
  close(o?: { graceMs?: number }): Promise<void>;
}

interface Transaction {
  readonly from: ReversePath;
  readonly parameters: ReadonlyMap<string, string>;
  readonly smtputf8: boolean;
  readonly recipients: Map<string, Recipient>;
}

/** What the intake knows of a session. */
interface Guest {
  readonly session: Session;
  readonly admission: Exclude<Admission, { type: 'refused' }>;
  transaction: Transaction | undefined;
  /** Set while a message is on its way; aborting gives it up. */
  message: AbortController | undefined;
  /** All of the message is here; the spool decides. */
  committing: boolean;
}

/** Takes mail from the connections of `server` into `spool`. Never throws at a client's doing; faults of ours are answered 451. */
export function createIntake(o: IntakeOptions): Intake {
  const guests = new Map<SMTPServerSession, Guest>();
  const pending = new Set<Socket>();
  const onEvent = o.onEvent ?? (() => {});
  let closing = false;
  let onIdle: (() => void) | undefined;
  const handlers = makeHandlers({ ...o, onEvent }, guests, settle);
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
      guests.set(session.session, {
        session,
        admission,
        transaction: undefined,
        message: undefined,
        committing: false,
      });
    };
    // Not the socket's own event: STARTTLS takes the listeners of the plain socket away.
    const onClose = (session: SMTPServerSession): void => {
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
      if (admission.type === 'refused') onEvent({ type: 'connection-refused', reason: admission.reason });
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
  return {
    get sessions() {
      return guests.size;
    },
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
      o.server.off('connection', arrive);
      o.server.on('connection', (socket: Socket) => socket.destroy());
    },
  };
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
  o: IntakeOptions & { onEvent: OnRelayEvent },
  guests: Map<SMTPServerSession, Guest>,
  onSettled: () => void,
): Handlers {
  const refuse = (session: SMTPServerSession, refusal: Refusal, callback: (error: Error) => void): void => {
    o.onEvent({ type: 'rejected', session: session.id, code: refusal.code, text: refusal.text });
    callback(replyError(refusal));
  };
  return {
    onAuth(auth, session, callback) {
      const admission = guests.get(session)?.admission;
      if (admission?.type === 'open' || admission?.verify(auth.password ?? '')) return callback(null, { user: true });
      o.onEvent({ type: 'auth-failed', session: session.id });
      callback(replyError({ code: 535, text: '5.7.8 This is not the local password (see: postern password)' }));
    },
    onMailFrom(address, session, callback) {
      const { path, parameters, refusal } = address as PathCommand;
      const guest = guests.get(session);
      if (refusal !== undefined) return refuse(session, refusal, callback);
      if (guest === undefined) return refuse(session, { code: 451, text: '4.3.0 Session is gone' }, callback);
      const smtputf8 = parameters.has('SMTPUTF8');
      if (lacksSmtputf8(path, smtputf8)) {
        return refuse(session, { code: 553, text: '5.6.7 This address needs SMTPUTF8' }, callback);
      }
      guest.transaction = { from: path as ReversePath, parameters, smtputf8, recipients: new Map() };
      // smtp-server 3.21.6 forgets the next message when all of MAIL, RCPT and DATA behind a pipelined message are answered in one turn.
      setImmediate(callback);
    },
    onRcptTo(address, session, callback) {
      const { path, parameters, refusal } = address as PathCommand;
      const transaction = guests.get(session)?.transaction;
      if (refusal !== undefined) return refuse(session, refusal, callback);
      if (transaction === undefined) return refuse(session, { code: 503, text: '5.5.1 Need MAIL first' }, callback);
      if (lacksSmtputf8(path, transaction.smtputf8)) {
        return refuse(session, { code: 553, text: '5.6.7 This address needs SMTPUTF8' }, callback);
      }
      if (transaction.recipients.size >= MAX_RECIPIENTS) {
        return refuse(session, { code: 452, text: '4.5.3 Too many recipients' }, callback);
      }
      const to = path as ForwardPath;
      if (o.routes().take(to, transaction.from) === undefined) {
        return refuse(session, { code: 550, text: '5.7.1 No route takes this recipient' }, callback);
      }
      const notify = notifyOf(parameters);
      const orcpt = parameters.get('ORCPT');
      transaction.recipients.set(to, {
        to,
        ...(notify === undefined ? {} : { notify }),
        ...(orcpt === undefined ? {} : { orcpt }),
      });
      callback();
    },
    onData(stream, session, callback) {
      const guest = guests.get(session);
      if (guest?.transaction === undefined) return callback(replyError({ code: 451, text: '4.3.0 Session is gone' }));
      guest.message = new AbortController();
      void take(o, guest, guest.transaction, stream).then((result) => {
        guest.message = undefined;
        guest.transaction = undefined;
        guest.committing = false;
        // What is left of a refused message is read and dropped; smtp-server replies after its last octet.
        stream.resume();
        if (typeof result === 'string') callback(null, result);
        else refuse(session, result, callback);
        if (guest.session.draining) setImmediate(onSettled);
      });
    },
  };
}

/** Thrown through the spool to end an accept. */
class RefusedMessage extends Error {
  readonly refusal: Refusal;
  constructor(refusal: Refusal) {
    super(refusal.text);
    this.refusal = refusal;
  }
}

/** Spools one message: the text of the 250, or the refusal. */
async function take(
  o: IntakeOptions & { onEvent: OnRelayEvent },
  guest: Guest,
  transaction: Transaction,
  stream: SMTPServerDataStream,
): Promise<string | Refusal> {
  const id = newEntryId(o.env);
  const { session, admission } = guest;
  // RFC 3848, RFC 6531 §4.3.
  const extended = transaction.smtputf8 ? 'UTF8SMTP' : 'ESMTP';
  const protocol = session.openingCommand !== 'EHLO' ? 'SMTP' : session.secure ? `${extended}S` : extended;
  const checked = checkedMessage(stream, o.sizeLimit ?? SIZE_LIMIT, () => {
    guest.committing = true;
  });
  try {
    const message = withTrace(checked, { hostname: o.hostname, id, protocol, at: o.env.wallNow() });
    const signal = guest.message?.signal;
    await o.spool.accept(envelopeOf(transaction), message, { id, ...(signal === undefined ? {} : { signal }) });
  } catch (error) {
    return refusalOf(error);
  }
  o.onEvent({
    type: 'accepted',
    id,
    session: session.id,
    who: admission.type === 'open' ? admission.who : 'password',
    from: transaction.from,
    recipients: transaction.recipients.size,
    size: stream.byteLength,
  });
  return `Ok: queued as ${id}`;
}

function envelopeOf({ from, parameters, smtputf8, recipients }: Transaction): Envelope {
  const ret = parameters.get('RET')?.toUpperCase() as 'FULL' | 'HDRS' | undefined;
  const envid = parameters.get('ENVID');
  return {
    from,
    recipients: [...recipients.values()],
    body: parameters.get('BODY')?.toUpperCase() === '8BITMIME' ? '8BITMIME' : '7BIT',
    smtputf8,
    ...(ret === undefined ? {} : { ret }),
    ...(envid === undefined ? {} : { envid }),
  };
}

function refusalOf(error: unknown): Refusal {
  if (error instanceof RefusedMessage) return error.refusal;
  if (error instanceof SpoolError && error.code === 'no-space') {
    return { code: 452, text: '4.3.1 The spool has too little room, try again later' };
  }
  return { code: 451, text: '4.3.0 The message could not be stored, try again later' };
}

/** The stream's bytes while they are fit to travel; the stream itself is left alone when the reader gives up. */
async function* checkedMessage(
  stream: SMTPServerDataStream,
  limit: number,
  onEnd: () => void,
): AsyncGenerator<Uint8Array> {
  const checker = createMessageChecker();
  let size = 0;
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    size += (chunk as Buffer).length;
    if (size > limit) throw new RefusedMessage({ code: 552, text: `5.3.4 The message is larger than ${limit} octets` });
    const fault = checker.push(chunk as Buffer);
    if (fault !== undefined) throw new RefusedMessage({ code: 554, text: `5.6.0 ${describeFault(fault)}` });
    yield chunk as Buffer;
  }
  const verdict = checker.end();
  if (verdict.type === 'unfit') throw new RefusedMessage({ code: 554, text: `5.6.0 ${describeFault(verdict.fault)}` });
  onEnd();
}
