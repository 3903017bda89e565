/** One connection of a client: admission, TLS, the login gate, then the splice. */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type SecureContext, TLSSocket } from 'node:tls';
import {
  type Admission,
  type Admit,
  deferred,
  type Env,
  type GateAction,
  isLinkDown,
  type Login,
  LoginGate,
  type ResponseCode,
  withoutCompress,
} from '@postern/core';
import { type Continuity, carry } from './carry.ts';
import { ImapError } from './errors.ts';
import type { OnImapEvent } from './event.ts';
import type { Imapd, Taken } from './imapd.ts';
import { LOGIN_DEADLINE_MS, MAX_PIPELINED } from './limits.ts';
import { closeGently, type Splice, splice } from './splice.ts';

/** TLS toward the client. A function is asked per connection, so that a renewed certificate is used at once. */
export interface EndpointTls {
  readonly mode: 'starttls' | 'implicit';
  readonly secureContext: SecureContext | (() => SecureContext);
}

/** Where a login leads: always the same imapd, or the one its login name picks (undefined: no such host); asked at every login. */
export type ImapdFor = Imapd | ((user: string) => Imapd | undefined);

/** What a {@link Connection} needs. */
export interface ConnectionOptions {
  readonly socket: Socket;
  /** For events: address and port, or `unix`. */
  readonly peer: string;
  readonly imapd: ImapdFor;
  readonly admit: Admit;
  readonly env: Env;
  readonly onEvent: OnImapEvent;
  readonly tls?: EndpointTls;
  /** No login: the far greeting itself. */
  readonly preauth?: boolean;
  readonly name?: string;
  /** Sessions outlive their link; absent: the plain splice. */
  readonly continuity?: Continuity;
}

/** One client, from its banner to its end. */
export class Connection {
  /** Resolves when the connection is closed. Never rejects. */
  readonly done: Promise<void>;
  readonly #o: ConnectionOptions;
  readonly #gate: LoginGate;
  readonly #ended = deferred<void>();
  readonly #gone = new AbortController();
  readonly #deadline: Disposable;
  #stream: Duplex;
  #admission: Admission | undefined;
  #splice: Splice | undefined;
  #closing = false;

  /** Starts serving at once. */
  constructor(o: ConnectionOptions) {
    this.#o = o;
    this.#stream = o.socket;
    this.done = this.#ended.promise;
    this.#gate = new LoginGate({
      startTls: o.tls?.mode === 'starttls',
      ...(o.name === undefined ? {} : { name: o.name }),
    });
    o.socket.allowHalfOpen = true;
    o.socket.setNoDelay(true);
    o.socket.on('error', () => {});
    o.socket.once('close', () => this.#onClose());
    this.#deadline = o.env.schedule(LOGIN_DEADLINE_MS, () => this.#bye('UNAVAILABLE', 'Nobody logged in'));
    void this.#start();
  }

  /** Ends it with `* BYE [UNAVAILABLE] reason`. */
  close(reason: string): void {
    if (this.#splice !== undefined) this.#splice.close(reason);
    else if (this.#admission === undefined || this.#o.preauth === true) this.#end();
    else this.#bye('UNAVAILABLE', reason);
  }

  async #start(): Promise<void> {
    const admission = await this.#o.admit(this.#o.socket);
    if (this.#closing) return;
    if (admission.type === 'refused' || (this.#o.preauth === true && admission.type === 'password')) {
      const reason = admission.type === 'refused' ? admission.reason : 'no password can be given here';
      this.#o.onEvent({ type: 'refused', peer: this.#o.peer, reason });
      return this.#end();
    }
    this.#admission = admission;
    if (this.#o.tls?.mode === 'implicit' && !(await this.#secure())) return;
    if (this.#o.preauth === true) return this.#preauth();
    this.#act(this.#gate.greeting());
    this.#listen();
  }

  #listen(): void {
    this.#stream.on('data', this.#onData).once('end', this.#onEnd);
  }

  #unlisten(): void {
    this.#stream.pause();
    this.#stream.off('data', this.#onData).off('end', this.#onEnd);
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#act(this.#gate.receive(chunk));
    if (this.#gate.held > MAX_PIPELINED) this.#stream.pause();
  };

  /** A client that half-closes behind a pipelined login still gets its answers; one that leaves before is done. */
  readonly #onEnd = (): void => {
    if (!this.#gate.deciding) this.#end();
  };

  #onClose(): void {
    this.#closing = true;
    this.#deadline[Symbol.dispose]();
    this.#gone.abort(new ImapError('closed', 'the client is gone'));
    if (this.#splice === undefined) this.#ended.resolve();
  }

  #act(actions: readonly GateAction[]): void {
    for (const action of actions) {
      if (this.#closing) return;
      if (action.type === 'write') this.#stream.write(action.bytes);
      else if (action.type === 'login') void this.#login(action.login);
      else if (action.type === 'starttls') void this.#startTls();
      else if (action.type === 'close') this.#hangUp(action.hopeless);
    }
  }

  #hangUp(hopeless: string | undefined): void {
    if (hopeless !== undefined) this.#o.onEvent({ type: 'refused', peer: this.#o.peer, reason: hopeless });
    this.#end();
  }

  #bye(code: ResponseCode, reason: string): void {
    this.#act(this.#gate.bye(code, reason));
  }

  #end(): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#unlisten();
    this.#gone.abort(new ImapError('closed', 'the connection is closed'));
    void closeGently(this.#stream, this.#o.env);
  }

  async #login(login: Login): Promise<void> {
    const admission = this.#admission;
    if (admission?.type === 'password' && !admission.verify(login.password.reveal())) {
      return this.#refuse(login, 'AUTHENTICATIONFAILED', 'Wrong password');
    }
    const imapd = this.#imapdFor(login.user);
    if (imapd === undefined) {
      return this.#refuse(login, 'AUTHENTICATIONFAILED', 'The login name must be the name of a host');
    }
    const began = this.#o.env.monotonicNow();
    const taken = await this.#take(imapd, (code, reason, down) =>
      down ? this.#refuseDown(login, code, reason) : this.#refuse(login, code, reason),
    );
    if (taken === undefined) return;
    const ms = this.#o.env.monotonicNow() - began;
    this.#report(imapd, login.user, taken, ms);
    this.#deadline[Symbol.dispose]();
    this.#unlisten();
    for (const action of this.#gate.accept({ capabilities: this.#offered(taken.session.capabilities) })) {
      if (action.type === 'write') this.#stream.write(action.bytes);
      else if (action.type === 'splice') this.#join(imapd, taken, action.rest);
    }
  }

  /** Compressed octets cannot be followed: with continuity the extension is not offered. */
  #offered(capabilities: readonly string[]): readonly string[] {
    if (this.#o.continuity === undefined) return capabilities;
    return capabilities.filter((name) => name.toUpperCase() !== 'COMPRESS=DEFLATE');
  }

  #imapdFor(user: string): Imapd | undefined {
    return typeof this.#o.imapd === 'function' ? this.#o.imapd(user) : this.#o.imapd;
  }

  #report(imapd: Imapd, user: string, taken: Taken, ms: number): void {
    const who = this.#admission?.type === 'open' ? this.#admission.who : 'password';
    const { peer } = this.#o;
    this.#o.onEvent({ type: 'login', peer, who, user, host: imapd.host, spare: taken.spare, ms });
  }

  #refuse(login: Login, code: ResponseCode, reason: string): void {
    this.#o.onEvent({ type: 'login-failed', peer: this.#o.peer, user: login.user, reason });
    if (!this.#closing) this.#act(this.#gate.reject(code, reason));
  }

  /** The link is down: many clients forget the password at a NO, none does at a BYE. */
  #refuseDown(login: Login, code: ResponseCode, reason: string): void {
    this.#o.onEvent({ type: 'login-failed', peer: this.#o.peer, user: login.user, reason });
    this.#bye(code, reason);
  }

  /** A session, or undefined when `refuse` was called or the client has gone. */
  async #take(
    imapd: Imapd,
    refuse: (code: ResponseCode, reason: string, down: boolean) => void,
  ): Promise<Taken | undefined> {
    try {
      const taken = await imapd.take({ signal: this.#gone.signal });
      if (!this.#closing) return taken;
      taken.session.channel.abort(new Error('the client is gone'));
    } catch (error) {
      if (this.#gone.signal.aborted) return undefined;
      const reason = error instanceof Error ? error.message : String(error);
      const down = isLinkDown(error) || (error instanceof ImapError && error.code === 'closed');
      refuse(codeFor(error), reason, down);
    }
    return undefined;
  }

  #join(imapd: Imapd, taken: Taken, rest: Buffer): void {
    const { channel } = taken.session;
    const { env, continuity } = this.#o;
    if (continuity === undefined) {
      if (rest.length > 0) channel.stream.write(rest);
      this.#splice = splice(this.#stream, channel, { host: imapd.host, env });
    } else {
      if (rest.length > 0) this.#stream.unshift(rest);
      this.#splice = carry(this.#stream, taken.session, { ...continuity, imapd, env });
    }
    void this.#splice.done.then((why) => {
      this.#o.onEvent({ type: 'ended', peer: this.#o.peer, host: imapd.host, why });
      this.#ended.resolve();
    });
  }

  async #preauth(): Promise<void> {
    const imapd = this.#imapdFor('');
    if (imapd === undefined) return this.#end();
    const began = this.#o.env.monotonicNow();
    const taken = await this.#take(imapd, (code, reason) => this.#bye(code, reason));
    if (taken === undefined) return;
    this.#deadline[Symbol.dispose]();
    this.#report(imapd, '', taken, this.#o.env.monotonicNow() - began);
    this.#stream.write(
      this.#o.continuity === undefined ? taken.session.greeting : withoutCompress(taken.session.greeting),
    );
    this.#join(imapd, taken, Buffer.alloc(0));
  }

  /** Puts TLS on the connection; false when it failed and the connection is closed. */
  async #secure(): Promise<boolean> {
    const { tls, socket } = this.#o;
    if (tls === undefined) return false;
    // What Node has read already would be handed to TLS as if it had come encrypted.
    if (tls.mode === 'starttls') while (socket.read() !== null);
    const secureContext = typeof tls.secureContext === 'function' ? tls.secureContext() : tls.secureContext;
    const secured = new TLSSocket(socket, { isServer: true, secureContext });
    secured.allowHalfOpen = true;
    this.#stream = secured;
    const outcome = deferred<boolean>();
    secured.once('secure', () => outcome.resolve(true));
    secured.once('close', () => outcome.resolve(false));
    secured.on('error', (error) => {
      if (!this.#closing) this.#o.onEvent({ type: 'refused', peer: this.#o.peer, reason: `TLS: ${error.message}` });
      socket.destroy();
    });
    return outcome.promise;
  }

  async #startTls(): Promise<void> {
    this.#unlisten();
    if (!(await this.#secure())) return;
    this.#gate.secured();
    this.#listen();
    this.#stream.resume();
  }
}

/** The RFC 5530 code for a session that could not be had. */
function codeFor(error: unknown): ResponseCode {
  const needsSomebody = error instanceof ImapError && ['no-imapd', 'not-preauth', 'noise'].includes(error.code);
  return needsSomebody ? 'CONTACTADMIN' : 'UNAVAILABLE';
}
