/** The door of the relay: who is admitted gets a session, and nobody is thrown out in the middle of a message that is being committed. */
import type { Socket } from 'node:net';
import type { Admission } from '@postern/core';
import type { SMTPServerOptions, SMTPServerSession } from 'smtp-server';
import type { OnRelayEvent } from '../event.ts';
import { commandHandlers, type Handlers } from './commands.ts';
import { CLIENT_TIMEOUT_MS, type IntakeOptions, MAX_RECIPIENTS, MAX_SESSIONS, SIZE_LIMIT } from './options.ts';
import type { SessionState } from './receive.ts';
import { abortSession, type Session, SessionServer, secure } from './smtp-session.ts';

/** How long close() lets messages finish that are on their way, milliseconds. */
const DRAIN_MS = 5_000;

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
  return new SmtpIntake(o);
}

type Admitted = Exclude<Admission, { type: 'refused' }>;

class SmtpIntake implements Intake {
  readonly #options: IntakeOptions;
  readonly #onEvent: OnRelayEvent;
  readonly #states = new Map<SMTPServerSession, SessionState>();
  /** Connections that wait for their admission or their TLS. */
  readonly #pending = new Set<Socket>();
  readonly #admissions = new WeakMap<Socket, Admitted>();
  readonly #servers: { readonly open: SessionServer; readonly password: SessionServer };
  #closing = false;
  #onIdle: (() => void) | undefined;

  constructor(o: IntakeOptions) {
    this.#options = o;
    this.#onEvent = o.onEvent ?? (() => {});
    const handlers = commandHandlers({
      ...o,
      onEvent: this.#onEvent,
      sizeLimit: o.sizeLimit ?? SIZE_LIMIT,
      longLines: o.longLines ?? 'encode',
      sessions: this.#states,
      onSettled: () => this.#settle(),
    });
    this.#servers = { open: this.#server(handlers, true), password: this.#server(handlers, false) };
    o.server.on('connection', this.#arrive);
  }

  get sessions(): number {
    return this.#states.size;
  }

  stop(): void {
    this.#options.server.off('connection', this.#arrive);
  }

  async close({ graceMs = DRAIN_MS }: { graceMs?: number } = {}): Promise<void> {
    this.#closing = true;
    for (const socket of this.#pending) socket.destroy();
    for (const state of this.#states.values()) {
      state.session.draining = true;
      if (state.message === undefined) state.session.send(421, '4.3.2 Shutting down, try again in a moment');
    }
    const timer = this.#options.env.schedule(graceMs, () => this.#giveUp());
    await new Promise<void>((resolve) => {
      this.#onIdle = resolve;
      this.#settle();
    });
    timer[Symbol.dispose]();
    this.stop();
    this.#options.server.on('connection', (socket: Socket) => socket.destroy());
  }

  /** Ends the sessions whose message is neither here in full nor given up. */
  #giveUp(): void {
    for (const { message, committing, session } of this.#states.values()) {
      if (message === undefined || committing) continue;
      message.abort(new Error('shutting down'));
      abortSession(session);
    }
  }

  /** While closing: ends the sessions at rest, and tells when no message is under way. */
  #settle(): void {
    if (!this.#closing) return;
    for (const { message, session } of this.#states.values()) if (message === undefined) session.close();
    if (![...this.#states.values()].some(({ message }) => message !== undefined)) this.#onIdle?.();
  }

  readonly #arrive = (socket: Socket): void => {
    socket.on('error', () => {});
    if (this.#closing) return void socket.destroy();
    this.#pending.add(socket);
    void this.#options
      .admit(socket)
      .catch((error: unknown): Admission => ({ type: 'refused', reason: String(error) }))
      .then(async (admission) => {
        const { tls, env } = this.#options;
        const refused = admission.type === 'refused' || this.#closing;
        const stream = tls?.mode === 'implicit' && !refused ? await secure(socket, { tls, env }) : socket;
        this.#pending.delete(socket);
        if (stream !== undefined) this.#enter(stream, admission);
      });
  };

  #enter(socket: Socket, admission: Admission): void {
    if (socket.destroyed) return;
    if (admission.type === 'refused') {
      this.#onEvent({ type: 'connection-refused', peer: peerOf(socket), reason: admission.reason });
      socket.destroy();
    } else if (this.#closing) socket.destroy();
    else if (this.#states.size >= MAX_SESSIONS) {
      socket.end(`421 4.3.2 ${this.#options.hostname} has too many sessions\r\n`);
    } else {
      this.#admissions.set(socket, admission);
      this.#servers[admission.type === 'open' ? 'open' : 'password'].connect(socket);
    }
  }

  #server(handlers: Handlers, authOptional: boolean): SessionServer {
    // Not the socket's own event: STARTTLS takes the listeners of the plain socket away.
    const onClose = (session: SMTPServerSession): void => {
      this.#states.get(session)?.transaction?.cut?.close();
      this.#states.delete(session);
      this.#settle();
    };
    const server = new SessionServer(
      { ...serverOptions(this.#options), ...handlers, authOptional, onClose },
      { tls: this.#options.tls, onSession: (session, socket) => this.#begin(session, socket) },
    );
    // Without a listener an aborted connection would end the process.
    server.on('error', () => {});
    return server;
  }

  #begin(session: Session, socket: Socket): void {
    const admission = this.#admissions.get(socket);
    if (admission === undefined) return void socket.destroy();
    session.onQueueRun = this.#options.onQueueRun;
    this.#states.set(session.session, {
      session,
      peer: peerOf(socket),
      admission,
      transaction: undefined,
      message: undefined,
      committing: false,
    });
  }
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
