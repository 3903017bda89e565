/**
 * smtp-server 3.21.6 with its traps closed. It leaves its 100 ms wait before the greeting out; reads addresses with our own parser (smtp-server refuses
 * quoted local parts with spaces, turns A-labels into U-labels and merges `a@x` with `A@x`); refuses unknown parameters (RFC 5321 §4.1.1.11); drops HTTP of
 * any method; closes at BDAT, whose payload would be read as commands. Uses what its types call public but its
 * manual does not mention: the version is pinned and smtp-session.test.ts is the contract.
 */
import type { Socket } from 'node:net';
import type { Writable } from 'node:stream';
import { type SecureContext, TLSSocket } from 'node:tls';
import {
  decodeXtext,
  type Env,
  type ForwardPath,
  type Notify,
  needsSmtputf8,
  parseForwardPath,
  parseReversePath,
  type Reply,
  type ReversePath,
} from '@postern/core';
import { SMTPServer, type SMTPServerAddress, type SMTPServerOptions } from 'smtp-server';
import { SMTPConnection } from 'smtp-server/lib/smtp-connection.js';

const ENHANCED = /^[245]\.\d{1,3}\.\d{1,3} /;
const HTTP = / HTTP\/\d(?:\.\d)?$/;
const PATH_COMMAND = /^(MAIL FROM|RCPT TO)[ \t]*:[ \t]*<((?:"(?:\\.|[^"\\])*"|[^<>"])*)>[ \t]*(.*)$/is;
/** The same without brackets, as scripts write it: nothing in it can move them. */
const BARE_PATH_COMMAND = /^(MAIL FROM|RCPT TO)[ \t]*:[ \t]*([^\s<>"\\@]+@[^\s<>"\\@]+)(?:[ \t]+(.*))?$/is;
/** A name without a domain. */
const LOCAL = /^[^\s<>"\\@(),:;![\]%]+$/;
const MAIL_PARAMETERS = ['SIZE', 'BODY', 'SMTPUTF8', 'RET', 'ENVID', 'AUTH'];
const RCPT_PARAMETERS = ['NOTIFY', 'ORCPT'];

/** A reply that refuses. `text` starts with its enhanced code. */
export interface Refusal {
  readonly code: number;
  readonly text: string;
}

/** What MAIL or RCPT said, as our parser reads it. */
export interface PathCommand extends SMTPServerAddress {
  /** The checked path; the string of a null reverse-path is empty. */
  readonly path: ForwardPath | ReversePath;
  /** As the client wrote it, without the angle brackets. */
  readonly given: string;
  readonly refusal?: Refusal;
  readonly parameters: ReadonlyMap<string, string>;
}

/** An error smtp-server turns into a reply. */
export function replyError({ code, text }: Refusal): Error & { responseCode: number } {
  return Object.assign(new Error(text), { responseCode: code });
}

/**
 * Reads `MAIL FROM:<…> …` or `RCPT TO:<…> …`. Undefined when it has not even that form. A sender without a domain is one of `domain`, as Postfix's `myorigin`
 * has it.
 */
export function parsePathCommand(line: string, domain?: string): PathCommand | undefined {
  const said = line.trim();
  const [, verb, written, rest = ''] = PATH_COMMAND.exec(said) ?? BARE_PATH_COMMAND.exec(said) ?? [];
  if (verb === undefined || written === undefined) return undefined;
  const mail = /^mail/i.test(verb);
  const inner = mail && domain !== undefined && LOCAL.test(written) ? `${written}@${domain}` : written;
  const parameters = new Map<string, string>();
  const refused = (code: number, text: string): PathCommand => ({
    address: 'refused@invalid',
    args: {},
    path: '' as ReversePath,
    given: inner,
    parameters,
    refusal: { code, text },
  });
  for (const word of rest.split(/[ \t]+/).filter((text) => text !== '')) {
    const [, key, value] = /^([A-Za-z0-9-]+)(?:=(.*))?$/s.exec(word) ?? [];
    const name = key?.toUpperCase() ?? '';
    if (!(mail ? MAIL_PARAMETERS : RCPT_PARAMETERS).includes(name))
      return refused(555, `5.5.4 Parameter ${name} is not known`);
    if (parameters.has(name)) return refused(501, `5.5.4 Parameter ${name} is given twice`);
    parameters.set(name, value ?? '');
  }
  let decoded: Map<string, string>;
  try {
    decoded = decodeAll(parameters);
  } catch {
    return refused(501, '5.5.4 ENVID and ORCPT are xtext (RFC 3461)');
  }
  try {
    const path = mail ? parseReversePath(inner) : parseForwardPath(inner);
    return { address: path, args: toArgs(parameters), path, given: inner, parameters: decoded };
  } catch (error) {
    return refused(mail ? 553 : 501, `5.1.${mail ? 7 : 3} ${(error as RangeError).message}`);
  }
}

/** The form smtp-server checks. AUTH= (RFC 4954 §5) means nothing here. */
function toArgs(parameters: ReadonlyMap<string, string>): Record<string, string | true> {
  return Object.fromEntries(
    Array.from(parameters, ([key, value]): [string, string | true] => [key, value === '' ? true : value]).filter(
      ([key]) => key !== 'AUTH',
    ),
  );
}

/** ENVID and ORCPT are xtext (RFC 3461 §4.2, §4.4). */
function decodeAll(parameters: ReadonlyMap<string, string>): Map<string, string> {
  return new Map(
    Array.from(parameters, ([key, value]) => [key, ['ENVID', 'ORCPT'].includes(key) ? decodeXtext(value) : value]),
  );
}

/** What NOTIFY says; smtp-server has checked it. */
export function notifyOf(parameters: ReadonlyMap<string, string>): Notify[] | undefined {
  return parameters.get('NOTIFY')?.toUpperCase().split(',') as Notify[] | undefined;
}

/** True when the path needs SMTPUTF8 and MAIL did not ask for it (RFC 6531 §3.3). */
export function lacksSmtputf8(path: ForwardPath | ReversePath, asked: boolean): boolean {
  return !asked && needsSmtputf8(path);
}

/** TLS toward clients. The context is asked for at each handshake, so that a renewed certificate is used at once. */
export interface IntakeTls {
  readonly mode: 'starttls' | 'implicit';
  readonly secureContext: () => SecureContext;
}

/** How long a TLS handshake may take, milliseconds. */
const HANDSHAKE_MS = 30_000;
/** What must not be said in plain where STARTTLS is configured (RFC 3207 §4). */
const NEEDS_TLS = /^(?:MAIL|RCPT|DATA|AUTH|ETRN)\b/i;

/** Implicit TLS (RFC 8314 §3.3). Undefined when the handshake fails; the socket is destroyed then. */
export function secure(socket: Socket, { tls, env }: { tls: IntakeTls; env: Env }): Promise<TLSSocket | undefined> {
  return new Promise((resolve) => {
    const secured = new TLSSocket(socket, { isServer: true, secureContext: tls.secureContext() });
    secured.allowHalfOpen = true;
    const limit = env.schedule(HANDSHAKE_MS, () => socket.destroy());
    const settle = (result: TLSSocket | undefined): void => {
      limit[Symbol.dispose]();
      resolve(result);
    };
    secured.once('secure', () => settle(secured));
    secured.once('close', () => settle(undefined));
    secured.on('error', () => socket.destroy());
  });
}

/** One client's session. */
export class Session extends SMTPConnection {
  /** Set by the intake: the next command is answered 421. */
  draining = false;
  /** Set by the server before `init`. */
  tls: IntakeTls | undefined;
  /** Set by the server before `init`: what a client's ETRN asks for. Without, it is not offered. */
  onQueueRun: (() => void) | undefined;
  #helloed = false;
  /** The far side's reply, which goes to the client as it is in place of the next one (cut-through). */
  farReply: Reply | undefined;

  override init(): void {
    // The socket is secure already. The option of the same name would have the server keep a certificate of its own.
    if (this.tls?.mode === 'implicit') {
      this.secure = true;
      this.session.secure = true;
    }
    this.#adopt();
    this._setListeners(() => this.connectionReady());
  }

  get #needsTls(): boolean {
    return this.tls?.mode === 'starttls' && !this.secure;
  }

  #adopt(): void {
    // smtp-server writes only to a socket that is open both ways. Exim 4.96 sends QUIT behind its last dot and shuts its side down at once: it
    // would never hear the 250 of a message that is taken, and send it again and again.
    const socket = this._socket;
    Object.defineProperty(socket, 'readyState', {
      configurable: true,
      get: () => (socket.writable ? 'open' : 'closed'),
    });
    // It leaves a half-closed socket open until its timeout, too. The parser ends when all it was given is answered.
    (this._parser as Writable).once('finish', () => socket.destroySoon());
  }

  override upgrade(callback: () => void, secureCallback?: () => void): void {
    if (this.tls !== undefined) this._server.secureContext.set('*', this.tls.secureContext());
    // What Node has read already would be handed to TLS as if it had come encrypted.
    this._socket.unpipe(this._parser as Writable);
    while (this._socket.read() !== null);
    super.upgrade(callback, () => {
      this.#adopt();
      secureCallback?.();
    });
  }

  /** AUTH is not offered in plain where STARTTLS is configured (RFC 4954 §4). */
  override _isSupported(command: string): boolean {
    return super._isSupported(command) && !(this.#needsTls && /^AUTH$/i.test(command.trim()));
  }

  override send(code: number, data?: string | string[] | null, context?: string | false): void {
    const far = this.farReply;
    if (far !== undefined) {
      this.farReply = undefined;
      const prefix = far.enhanced === undefined ? '' : `${far.enhanced} `;
      super.send(
        far.code,
        far.lines.map((line) => `${prefix}${line}`),
        false,
      );
      return;
    }
    if (this.#helloed && Array.isArray(data)) {
      this.#helloed = false;
      super.send(code, [...data, 'ETRN'], false);
      return;
    }
    super.send(code, data, typeof data === 'string' && ENHANCED.test(data) ? false : context);
  }

  override handler_EHLO(command: Buffer, callback: () => void): void {
    this.#helloed = this.onQueueRun !== undefined && !this.#needsTls;
    super.handler_EHLO(command, callback);
    this.#helloed = false;
  }

  /** RFC 1985 §5.3. Whatever node it names, all of the queue is run: what waits for others costs nothing to try. */
  handler_ETRN(command: Buffer, callback: () => void): void {
    const node = /^ETRN[ \t]+([@#]?[\w.-]+)[ \t]*$/i.exec(command.toString())?.[1];
    const { onQueueRun } = this;
    if (onQueueRun === undefined) this.send(502, '5.5.1 ETRN is not offered');
    else if (!this.session.user && !this._server.options.authOptional) this.send(530, '5.7.0 Authentication required');
    else if (!this.hostNameAppearsAs || this.session.envelope.mailFrom)
      this.send(503, '5.5.1 ETRN goes between EHLO and MAIL');
    else if (node === undefined) this.send(501, '5.5.4 Syntax: ETRN node');
    else {
      onQueueRun();
      this.send(250, '2.0.0 Queuing started');
    }
    callback();
  }

  override _onCommand(command: Buffer, callback?: () => void): void {
    const line = command.toString('latin1');
    if (HTTP.test(line)) {
      this._socket.destroy();
      return;
    }
    if (this.draining) {
      this.send(421, '4.3.2 Shutting down, try again in a moment');
      return;
    }
    if (this.#needsTls && this._nextHandler === false && NEEDS_TLS.test(line)) {
      this.send(530, '5.7.0 Must issue a STARTTLS command first');
      callback?.();
      return;
    }
    if (/^BDAT\b/i.test(line) && this._nextHandler === false) {
      // RFC 3030 §2: CHUNKING is not offered. What follows is a message, not commands.
      this.send(500, '5.5.1 CHUNKING is not offered');
      this.close();
      return;
    }
    super._onCommand(command, callback);
  }

  override _parseAddressCommand(_name: string, command: Buffer | string): PathCommand | false {
    return parsePathCommand(command.toString(), this._server.options.name) ?? false;
  }
}

/** Drops a session's connection, in the middle of whatever is said. */
export function abortSession(session: Session): void {
  session._socket.destroy();
}

/** An SMTP server whose connections come from elsewhere and are {@link Session}s. */
export class SessionServer extends SMTPServer {
  readonly #onSession: (session: Session, socket: Socket) => void;
  readonly #tls: IntakeTls | undefined;

  constructor(
    options: SMTPServerOptions,
    o: { tls: IntakeTls | undefined; onSession: (session: Session, socket: Socket) => void },
  ) {
    super(options);
    this.#onSession = o.onSession;
    this.#tls = o.tls;
  }

  override connect(socket: Socket): void {
    const session = new Session(this, socket);
    session.tls = this.#tls;
    this.connections.add(session);
    session.on('error', (error: Error) => this._onError(error));
    this.#onSession(session, socket);
    session.init();
  }
}
