/**
 * The login gate: what a client may say before it is logged in, as a machine. Octets in, actions out. It does no I/O, keeps no
 * clock and knows no password: the caller decides about a login and tells the gate.
 *
 * What a command may do, and when, is in `TABLE`; everything that moves the state is in this file.
 */

import type { Secret } from '../secret.ts';
import { type Command, parseCommand, parsePlain, tagOf } from './command.ts';
import { type CommandParts, type Frame, Framer, type Hopeless } from './framer.ts';
import { MAX_FAILED_LOGINS } from './limits.ts';

/** Who wants to come in. */
export interface Login {
  readonly user: string;
  readonly password: Secret;
}

/** What the caller is to do, in order. */
export type GateAction =
  | { readonly type: 'write'; readonly bytes: Buffer }
  /** Decide, then call `accept`, `reject` or `bye`. Nothing more is read of the input until then. */
  | { readonly type: 'login'; readonly login: Login }
  /** Start TLS on this connection, then call `secured`. What was pipelined behind STARTTLS is already gone. */
  | { readonly type: 'starttls' }
  /** From here the connection is the far side's: `rest` is what the client sent behind its login, to be passed on first. */
  | { readonly type: 'splice'; readonly rest: Buffer }
  /** Close. `hopeless`: the peer is no mail client, or broken; nothing was written. */
  | { readonly type: 'close'; readonly hopeless?: Hopeless };

/** A response code of RFC 5530 (or RFC 3501), without brackets. */
export type ResponseCode =
  | 'AUTHENTICATIONFAILED'
  | 'AUTHORIZATIONFAILED'
  | 'CONTACTADMIN'
  | 'LIMIT'
  | 'PRIVACYREQUIRED'
  | 'SERVERBUG'
  | 'UNAVAILABLE';

/** Where the connection stands. `commands` and `response` read input; the others wait, or are done. */
type GateState = 'commands' | 'response' | 'deciding' | 'handshake' | 'over';

/** What a handler sees: `needsTls` while no login may come before STARTTLS. */
interface Context {
  readonly needsTls: boolean;
  readonly name: string;
}

/** What a command does: lines to say, then the next state, then an action. */
interface Step {
  readonly say: readonly string[];
  readonly next?: GateState;
  readonly action?: GateAction;
}

type Table = { readonly [T in Command['type']]: (command: Extract<Command, { type: T }>, context: Context) => Step };

/** State `commands`, per command (RFC 3501 §6.1, §6.2). */
const TABLE: Table = {
  capability: ({ tag }, context) => ({
    say: [`* CAPABILITY ${capabilities(context)}`, `${tag} OK Capabilities listed`],
  }),
  noop: ({ tag }) => ({ say: [`${tag} OK Nothing done`] }),
  id: ({ tag }, { name }) => ({ say: [`* ID ("name" "${name}")`, `${tag} OK That is me`] }),
  logout: ({ tag }) => ({
    say: ['* BYE Good bye', `${tag} OK Logged out`],
    next: 'over',
    action: { type: 'close' },
  }),
  starttls: ({ tag }, { needsTls }) =>
    needsTls
      ? { say: [`${tag} OK Begin TLS now`], next: 'handshake', action: { type: 'starttls' } }
      : { say: [`${tag} BAD TLS is not to be had here`] },
  login: ({ tag, user, password }, { needsTls }) =>
    needsTls
      ? { say: [`${tag} NO [PRIVACYREQUIRED] STARTTLS first`] }
      : { say: [], next: 'deciding', action: { type: 'login', login: { user, password } } },
  authenticate({ tag, mechanism, initial }, { needsTls }) {
    if (needsTls) return { say: [`${tag} NO [PRIVACYREQUIRED] STARTTLS first`] };
    if (mechanism !== 'PLAIN') return { say: [`${tag} NO Only PLAIN is spoken here`] };
    return initial === undefined ? { say: ['+ '], next: 'response' } : plain(tag, initial.reveal().replace(/^=$/, ''));
  },
  other: ({ tag, name }) => ({ say: [`${tag} BAD ${name.slice(0, 40)} needs a login first`] }),
  bad: ({ tag, reason }) => ({ say: [`${tag ?? '*'} BAD ${reason}`] }),
};

/** State `response`: the client's answer to `+`; `*` cancels (RFC 3501 §6.2.2). */
function respond(tag: string, line: string): Step {
  return line === '*' ? { say: [`${tag} BAD Cancelled`], next: 'commands' } : plain(tag, line);
}

function plain(tag: string, response: string): Step {
  const credentials = parsePlain(response);
  if (credentials === undefined) return { say: [`${tag} BAD That is no PLAIN response`], next: 'commands' };
  const { authzid, user, password } = credentials;
  if (authzid !== '' && authzid !== user) {
    return { say: [`${tag} NO [AUTHORIZATIONFAILED] Nobody acts for somebody else here`], next: 'commands' };
  }
  return { say: [], next: 'deciding', action: { type: 'login', login: { user, password } } };
}

/** RFC 7888 §4 leaves a server that will not take a literal these two ways; the code is that of RFC 4469 §4.2. */
function tooLarge({ parts, synchronizing }: Extract<Frame, { type: 'too-large' }>): Step {
  const why = '[TOOBIG] No name and no password is that long';
  if (!synchronizing) return { say: [`* BYE ${why}`], next: 'over', action: { type: 'close' } };
  return { say: [`${tagOf(parts) ?? '*'} ${tagOf(parts) === undefined ? 'BAD' : 'NO'} ${why}`] };
}

/** What is advertised before login. Without AUTH=PLAIN mbsync 1.4 refuses to log in. */
function capabilities(gate: { readonly needsTls: boolean }): string {
  return `IMAP4rev1 LITERAL+ SASL-IR ID ${gate.needsTls ? 'STARTTLS LOGINDISABLED' : 'AUTH=PLAIN'}`;
}

/** Makes any text fit for a response: printable ASCII on one line (RFC 3501 §9 `text`), at most `limit` characters. */
export function responseText(text: string, limit = 400): string {
  const plain = text
    .replace(/\s+/g, ' ')
    .replaceAll('…', '...')
    .replace(/[^\x20-\x7e]/g, '?');
  return (plain.length > limit ? `${plain.slice(0, limit)}...` : plain).trim() || '-';
}

/** The login gate of one connection. */
export class LoginGate {
  readonly #name: string;
  #needsTls: boolean;
  #framer: Framer = new Framer();
  #state: GateState = 'commands';
  /** Tag of the command that awaits a response or a decision. */
  #tag = '';
  #failed = 0;
  #actions: GateAction[] = [];

  /** `startTls`: no login before STARTTLS. `name`: what ID and the greeting call us. */
  constructor(o: { startTls?: boolean; name?: string } = {}) {
    this.#needsTls = o.startTls === true;
    this.#name = o.name ?? 'Postern';
  }

  /** The greeting: never PREAUTH, which offlineimap 7, getmail 6 and aerc fail on and mutt refuses by default. */
  greeting(): GateAction[] {
    this.#say(`* OK [CAPABILITY ${capabilities({ needsTls: this.#needsTls })}] ${this.#name} ready`);
    return this.#flush();
  }

  /** A login awaits the caller's decision. */
  get deciding(): boolean {
    return this.#state === 'deciding';
  }

  /** Octets that wait for a decision; the caller stops reading when it is too much. */
  get held(): number {
    return this.#framer.held;
  }

  /** Takes what the client sent. */
  receive(bytes: Uint8Array): GateAction[] {
    if (this.#state !== 'over' && this.#state !== 'handshake') this.#framer.push(bytes);
    return this.#run();
  }

  /** The login is good: the tagged OK with these capabilities, then the splice. */
  accept(o: { capabilities: readonly string[] }): GateAction[] {
    this.#say(`${this.#tag} OK [CAPABILITY ${o.capabilities.join(' ')}] Logged in`);
    this.#state = 'over';
    this.#actions.push({ type: 'splice', rest: this.#framer.rest() });
    return this.#flush();
  }

  /** The login is refused; the client may try again, and what it pipelined is read as commands. */
  reject(code: ResponseCode, reason: string): GateAction[] {
    this.#step({ say: [`${this.#tag} NO [${code}] ${responseText(reason)}`], next: 'commands' });
    this.#failed += 1;
    if (this.#failed < MAX_FAILED_LOGINS) return this.#run();
    this.#step({ say: ['* BYE Too many failed logins'], next: 'over', action: { type: 'close' } });
    return this.#flush();
  }

  /** Ends the connection: `* BYE [code] reason`. In a TLS handshake nothing can be said. */
  bye(code: ResponseCode, reason: string): GateAction[] {
    if (this.#state === 'over') return [];
    const say = this.#state === 'handshake' ? [] : [`* BYE [${code}] ${responseText(reason)}`];
    this.#step({ say, next: 'over', action: { type: 'close' } });
    return this.#flush();
  }

  /**
   * TLS stands: everything starts again, without a greeting (RFC 3501 §6.2.1). What came in plain behind STARTTLS goes with the old
   * framer: it must not be believed.
   */
  secured(): void {
    this.#needsTls = false;
    this.#framer = new Framer();
    this.#state = 'commands';
  }

  #run(): GateAction[] {
    while (this.#state === 'commands' || this.#state === 'response') {
      const frame = this.#framer.next(this.#state === 'response' ? 'line' : 'command');
      if (frame === undefined) break;
      if (frame.type === 'continue') this.#say('+ OK');
      else if (frame.type === 'command') this.#step(this.#read(frame.parts));
      else if (frame.type === 'too-large') this.#step(tooLarge(frame));
      else this.#step({ say: [], next: 'over', action: { type: 'close', hopeless: frame.reason } });
    }
    return this.#flush();
  }

  #read(parts: CommandParts): Step {
    if (this.#state === 'response') return respond(this.#tag, parts[0]?.toString('latin1') ?? '');
    const command = parseCommand(parts);
    this.#tag = command.tag ?? '*';
    const handle = TABLE[command.type] as (command: Command, context: Context) => Step;
    return handle(command, { needsTls: this.#needsTls, name: this.#name });
  }

  #step(step: Step): void {
    for (const line of step.say) this.#say(line);
    this.#state = step.next ?? this.#state;
    if (step.action !== undefined) this.#actions.push(step.action);
  }

  #say(line: string): void {
    this.#actions.push({ type: 'write', bytes: Buffer.from(`${line}\r\n`, 'latin1') });
  }

  #flush(): GateAction[] {
    const actions = this.#actions;
    this.#actions = [];
    return actions;
  }
}
