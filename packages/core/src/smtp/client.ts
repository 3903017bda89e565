/**
 * The SMTP and LMTP client, without I/O: it is told each reply and asked what may be written next.
 *
 * Law:
 * 1. Every command written joins the end of `awaiting`; every reply answers its head. {@link LAW} says what a reply's class means there; a
 *    class that is not in the table, or a reply nobody awaits, is *out of step*: the session is over and nothing more is matched.
 * 2. A recipient that is accepted after its MAIL was refused, a message that is accepted for nobody, or before its last byte left, is out of
 *    step too: another transaction is open over there (Exim 4.96 keeps MAIL open after a refused only recipient).
 * 3. A transaction is settled when all its commands are answered; its verdicts come from its own replies alone. What is unanswered when the
 *    session ends is `unsent` before its last byte may have left, and `uncertain` after.
 * 4. After 421, or another goodbye in answer to RSET, nothing more is written; what is still answered counts, the rest is unsent (RFC 5321 §3.8).
 * 5. In the `bsmtp` dialogue nothing waits for a reply, so the first reply of an unexpected class ends the matching (a server that
 *    refused a recipient reads the message as commands): what follows is uncertain.
 */
import type { Envelope } from '../envelope.ts';
import { type Reply, replyClass } from '../outcome.ts';
import { formatMail, formatRcpt } from './command.ts';
import { type Extensions, NO_EXTENSIONS, parseEhlo } from './extensions.ts';
import { acceptedCount, isGoodbye, type TransactionReplies, type Verdict, verdicts } from './verdict.ts';

/**
 * How SMTP is spoken: `lockstep` waits for every reply; `pipelined` writes the final dot and the next envelope at once (RFC 2920); `stream`
 * writes transactions without waiting (RFC 2920 and 3030); `bsmtp` writes all of it and reads after. `auto` is the fastest of the first
 * three that EHLO allows; `stream` and `pipelined` too fall back to what EHLO allows.
 */
export type Dialogue = 'auto' | 'stream' | 'pipelined' | 'lockstep' | 'bsmtp';

/** Messages unanswered at most in the `stream` dialogue. */
export const STREAM_WINDOW = 25;
/** A message above this many octets waits for its recipients' replies, even when streaming: it may be for nobody. */
export const STREAM_AHEAD_OCTETS = 1_048_576;

/**
 * How many transactions do not stream their message ahead of the replies to RCPT, after one that was for nobody: servers count errors, and grow slow
 * (Postfix 3.7 sleeps 1 s for each after 10) or leave (Exim 4.96 after 3 messages without a recipient).
 */
export const CAREFUL_TRANSACTIONS = 3;

/** User and password for AUTH PLAIN or LOGIN (RFC 4954, RFC 4616). */
export interface Credentials {
  readonly user: string;
  readonly password: string;
}

/** What {@link createClient} needs. */
export interface ClientOptions {
  /** The name for EHLO, LHLO or HELO: a domain or an address literal (RFC 5321 §4.1.4). */
  readonly helo: string;
  readonly dialogue: Dialogue;
  /** LMTP (RFC 2033) greets with LHLO and answers once per recipient. */
  readonly protocol?: 'smtp' | 'lmtp';
  /** Messages unanswered at most; {@link STREAM_WINDOW} when absent. Only `stream` goes beyond 2. */
  readonly window?: number;
  /** Start as after a transaction that was for nobody: see {@link CAREFUL_TRANSACTIONS}. */
  readonly careful?: boolean;
  /** STARTTLS before anything else; without it in EHLO the session is refused (RFC 3207). */
  readonly startTls?: boolean;
  readonly credentials?: Credentials;
}

/** What a reply answers. */
export type AwaitedCommand =
  | 'greeting'
  | 'hello'
  | 'starttls'
  | 'auth'
  | 'reset'
  | 'mail'
  | 'rcpt'
  | 'data'
  | 'final'
  | 'noop'
  | 'quit';

/** What may be written next. */
export type ClientStep =
  | { readonly type: 'write'; readonly bytes: Uint8Array }
  /**
   * Write `head`, then the message of transaction `key`: dot-stuffed and ended by `.` CRLF, or its `size` octets as they are. Call
   * {@link ClientMachine.left} before the last byte.
   */
  | {
      readonly type: 'message';
      readonly key: number;
      readonly framing: 'dot' | 'chunk';
      readonly head: Uint8Array;
    }
  /** Run the TLS handshake, then call {@link ClientMachine.upgraded}. Plain bytes after the reply are an attack: end the session. */
  | { readonly type: 'upgrade' }
  /** Room for a transaction: {@link ClientMachine.submit} one, or {@link ClientMachine.finish}. */
  | { readonly type: 'offer' }
  /** Only a reply moves it on. */
  | { readonly type: 'wait' }
  /** Close the session. */
  | { readonly type: 'over' };

/** What a reply, or the session's end, brought about. */
export type ClientEvent =
  /** Greeting and EHLO are done. `dialogue` is the one in use. */
  | { readonly type: 'ready'; readonly extensions: Extensions; readonly dialogue: Exclude<Dialogue, 'auto'> }
  /** No session: the greeting, EHLO, STARTTLS or AUTH was refused, or is not offered (no `reply`). */
  | { readonly type: 'refused'; readonly at: AwaitedCommand; readonly reply?: Reply; readonly reason: string }
  /** Transaction `key` is done: a verdict per recipient, in the envelope's order. */
  | { readonly type: 'settled'; readonly key: number; readonly verdicts: readonly Verdict[] }
  /** 421 was read, or RSET was refused. */
  | { readonly type: 'closing'; readonly reply: Reply }
  /** See the law; `reply` is the one that did not fit. */
  | { readonly type: 'out-of-step'; readonly at: AwaitedCommand | 'nothing'; readonly reply: Reply };

/** The client's side of one session. */
export interface ClientMachine {
  /** Takes the next step; it counts as done when the caller has queued its bytes. */
  next(): ClientStep;
  receive(reply: Reply): ClientEvent[];
  /** Adds a transaction after `offer`; returns its key, counting from 0. `size` is the message's octets. */
  submit(transaction: { envelope: Envelope; size: number }): number;
  /**
   * Octets that may follow what is under way (RFC 2920) and have no reply: a NOOP without its line end, which is written once a reply has come. What
   * stands between (a netcat whose server is gone) notices by them that nobody reads any more. Undefined where none may be written.
   */
  probe(): Uint8Array | undefined;
  /** No more transactions: QUIT when all is answered. */
  finish(): void;
  /** Where the replies to MAIL and to the message of transaction `key` stand among all replies, the greeting's being 0. */
  places(key: number): { readonly mail: number; readonly final: number } | undefined;
  /** The last byte of message `key` is about to leave. */
  left(key: number): void;
  upgraded(): void;
  /** The session has ended, for whatever reason: settles what is open. */
  end(): ClientEvent[];
  /** What the oldest outstanding reply answers. Undefined when the session is over. */
  readonly awaiting: AwaitedCommand | undefined;
  /** Transactions not settled. */
  readonly open: number;
  /** QUIT was written. */
  readonly quit: boolean;
  /** From the last EHLO. */
  readonly extensions: Extensions;
}

type Effect =
  | 'hello'
  | 'ready'
  | 'older'
  | 'refused'
  | 'upgrade'
  | 'challenge'
  | 'enter'
  | 'reset'
  | 'mail'
  | 'rcpt'
  | 'data'
  | 'final'
  | 'over';

/** What the class of a reply means, by the command it answers (rule 1). */
const LAW: Readonly<Record<AwaitedCommand, Readonly<Partial<Record<2 | 3 | 4 | 5, Effect>>>>> = {
  greeting: { 2: 'hello', 4: 'refused', 5: 'refused' },
  hello: { 2: 'ready', 4: 'refused', 5: 'older' },
  starttls: { 2: 'upgrade', 4: 'refused', 5: 'refused' },
  auth: { 2: 'enter', 3: 'challenge', 4: 'refused', 5: 'refused' },
  reset: { 2: 'reset' },
  mail: { 2: 'mail', 4: 'mail', 5: 'mail' },
  rcpt: { 2: 'rcpt', 4: 'rcpt', 5: 'rcpt' },
  data: { 3: 'data', 4: 'data', 5: 'data' },
  final: { 2: 'final', 4: 'final', 5: 'final' },
  noop: { 2: 'reset', 4: 'reset', 5: 'reset' },
  quit: { 2: 'over', 4: 'over', 5: 'over' },
};

/** True when a reply of this class may answer the command: all others are out of step (rule 1). */
export function mayAnswer(command: AwaitedCommand, reply: Reply): boolean {
  return LAW[command][replyClass(reply)] !== undefined;
}

/** In the `bsmtp` dialogue only these classes keep the matching going (rule 5). */
const EXPECTED: Readonly<Partial<Record<AwaitedCommand, 2 | 3>>> = { mail: 2, rcpt: 2, data: 3, final: 2 };

interface Transaction extends TransactionReplies {
  readonly key: number;
  readonly envelope: Envelope;
  readonly size: number;
  stage: 'reset' | 'mail' | 'rcpt' | 'data' | 'message' | 'done';
  rcptSent: number;
  /** Commands of this transaction not answered. */
  pending: number;
  framing: 'dot' | 'chunk';
  /** A lone dot answered a 354 that nobody's recipient deserved (RFC 2920 §3.1). */
  lone: boolean;
  mailPlace: number;
  finalPlace: number;
  mail: Reply | undefined;
  readonly rcpt: (Reply | undefined)[];
  data: Reply | undefined;
  readonly finals: Reply[];
  left: boolean;
}

interface Awaited {
  readonly command: AwaitedCommand;
  readonly transaction?: Transaction;
  readonly at?: number;
}

const NOTHING: Uint8Array = Buffer.alloc(0);
const WAIT: ClientStep = { type: 'wait' };
const OVER: ClientStep = { type: 'over' };

/** Makes a {@link ClientMachine} that awaits the greeting. */
export function createClient(o: ClientOptions): ClientMachine {
  const lmtp = o.protocol === 'lmtp';
  const blind = o.dialogue === 'bsmtp';
  const awaiting: Awaited[] = [{ command: 'greeting' }];
  const queued: { bytes: Uint8Array; command: AwaitedCommand }[] = [];
  const open = new Map<number, Transaction>();
  let phase: 'opening' | 'upgrade' | 'ready' | 'quitting' | 'derailed' | 'over' = 'opening';
  let dialogue: Exclude<Dialogue, 'auto'> = blind ? 'bsmtp' : 'lockstep';
  let extensions: Extensions = NO_EXTENSIONS;
  let secured = false;
  let older = false;
  let challenges = 0;
  let current: Transaction | undefined;
  let keys = 0;
  let finishing = false;
  let quit = false;
  /** Replies the commands written so far will have had: the place of the next one. */
  let places = 1;
  /** The server may hold an open MAIL: RSET before the next one. */
  let dirty = false;
  /** Transactions that wait for their recipients' replies, after one that had none accepted. */
  let careful = o.careful === true ? CAREFUL_TRANSACTIONS : 0;
  /** A NOOP has no line end yet. */
  let probing = false;
  let closing: Reply | undefined;
  let lastReply: Reply | undefined;

  const command = (bytes: Uint8Array | string, awaited: Awaited): ClientStep => {
    awaiting.push(awaited);
    places++;
    if (awaited.transaction !== undefined) awaited.transaction.pending++;
    return { type: 'write', bytes: typeof bytes === 'string' ? Buffer.from(`${bytes}\r\n`) : bytes };
  };
  const ask = (text: string, name: AwaitedCommand): void =>
    void queued.push({ bytes: Buffer.from(`${text}\r\n`), command: name });
  const hello = (): void => ask(`${lmtp ? 'LHLO' : older ? 'HELO' : 'EHLO'} ${o.helo}`, 'hello');

  // -- what to write ------------------------------------------------------------------------------------------------

  const room = (): boolean => {
    if (current !== undefined || finishing || closing !== undefined) return false;
    if (dialogue === 'lockstep') return awaiting.length === 0;
    if (dialogue === 'pipelined') return open.size < 2;
    return dialogue === 'bsmtp' || open.size < (o.window ?? STREAM_WINDOW);
  };

  const endWithoutMessage = (transaction: Transaction): void => {
    transaction.stage = 'done';
    current = undefined;
    dirty = transaction.mail === undefined || replyClass(transaction.mail) === 2;
  };
  const isRefused = (transaction: Transaction): boolean =>
    !blind && transaction.mail !== undefined && replyClass(transaction.mail) !== 2;

  /** Each stage gives a step, or moves on and gives nothing. */
  const STAGES: Record<Transaction['stage'], (transaction: Transaction) => ClientStep | undefined> = {
    reset(transaction) {
      transaction.stage = 'mail';
      const needed = dirty || (dialogue === 'stream' && transaction.key > 0);
      dirty = false;
      return needed ? command('RSET', { command: 'reset' }) : undefined;
    },
    mail(transaction) {
      transaction.stage = 'rcpt';
      transaction.mailPlace = places;
      const bytes = formatMail(transaction.envelope, { size: transaction.size, extensions });
      return command(bytes, { command: 'mail', transaction });
    },
    rcpt(transaction) {
      if (isRefused(transaction)) {
        endWithoutMessage(transaction);
        return undefined;
      }
      const at = transaction.rcptSent;
      const recipient = transaction.envelope.recipients[at];
      if (recipient === undefined) {
        transaction.stage = 'data';
        return undefined;
      }
      transaction.rcptSent++;
      const bytes = formatRcpt(recipient, { extensions, smtputf8: transaction.envelope.smtputf8 });
      return command(bytes, { command: 'rcpt', transaction, at });
    },
    data(transaction) {
      if (dialogue === 'stream') {
        if (transaction.pending > 0 && (careful > 0 || transaction.size > STREAM_AHEAD_OCTETS)) return WAIT;
        transaction.framing = 'chunk';
      }
      transaction.stage = 'message';
      return transaction.framing === 'dot' ? command('DATA', { command: 'data', transaction }) : undefined;
    },
    message(transaction) {
      if (transaction.framing === 'dot' && !blind) {
        if (transaction.data === undefined) return WAIT;
        if (acceptedCount(transaction) === 0) return loneDot(transaction);
      }
      transaction.stage = 'done';
      current = undefined;
      const { key, framing, size } = transaction;
      const head = framing === 'dot' ? NOTHING : Buffer.from(`BDAT ${size} LAST\r\n`);
      command(head, { command: 'final', transaction });
      transaction.finalPlace = places - 1;
      return { type: 'message', key, framing, head };
    },
    done: () => undefined,
  };
  const loneDot = (transaction: Transaction): ClientStep => {
    transaction.stage = 'done';
    transaction.lone = true;
    current = undefined;
    return command('.', { command: 'final', transaction });
  };

  const advance = (): ClientStep | undefined => {
    while (current !== undefined) {
      if (dialogue === 'lockstep' && awaiting.length > 0) return WAIT;
      const step = STAGES[current.stage](current);
      if (step !== undefined) return step;
    }
    return undefined;
  };

  // -- what a reply means -------------------------------------------------------------------------------------------

  const over = (event: ClientEvent): ClientEvent[] => {
    phase = 'over';
    return [event];
  };
  const refuse = (at: AwaitedCommand, reason: string, reply?: Reply): ClientEvent[] =>
    over({ type: 'refused', at, reason, ...(reply === undefined ? {} : { reply }) });
  const outOfStep = (at: AwaitedCommand | 'nothing', reply: Reply, transaction?: Transaction): ClientEvent[] => {
    // What this transaction was told may have been meant for another: nothing of it counts.
    if (transaction !== undefined) {
      transaction.mail = undefined;
      transaction.data = undefined;
      transaction.rcpt.fill(undefined);
    }
    return over({ type: 'out-of-step', at, reply });
  };

  const enter = (): ClientEvent[] => {
    phase = 'ready';
    if (!blind) dialogue = chooseDialogue(o.dialogue, extensions);
    return [{ type: 'ready', extensions, dialogue }];
  };
  const logIn = (credentials: Credentials): ClientEvent[] => {
    if (extensions.auth.includes('PLAIN')) {
      ask(`AUTH PLAIN ${Buffer.from(plainSecret(credentials)).toString('base64')}`, 'auth');
    } else if (extensions.auth.includes('LOGIN')) ask('AUTH LOGIN', 'auth');
    else return refuse('auth', 'the server offers neither AUTH PLAIN nor AUTH LOGIN');
    return [];
  };
  const ready = (reply: Reply): ClientEvent[] => {
    extensions = older ? NO_EXTENSIONS : parseEhlo(reply);
    if (o.startTls === true && !secured) {
      if (!extensions.startTls) return refuse('starttls', 'the server does not offer STARTTLS');
      ask('STARTTLS', 'starttls');
      return [];
    }
    return o.credentials === undefined ? enter() : logIn(o.credentials);
  };
  const challenge = (credentials: Credentials | undefined, reply: Reply): ClientEvent[] => {
    const plain = extensions.auth.includes('PLAIN');
    // A server that overlooks the initial response asks for it (RFC 4954 §4).
    const answers = plain ? [plainSecret(credentials)] : [credentials?.user, credentials?.password];
    const answer = answers[challenges++];
    if (credentials === undefined || answer === undefined) return outOfStep('auth', reply);
    ask(Buffer.from(answer).toString('base64'), 'auth');
    return [];
  };

  const settle = (transaction: Transaction): ClientEvent[] => {
    if (transaction.stage !== 'done' || transaction.pending > 0) return [];
    open.delete(transaction.key);
    careful = acceptedCount(transaction) === 0 ? CAREFUL_TRANSACTIONS : Math.max(0, careful - 1);
    return [{ type: 'settled', key: transaction.key, verdicts: verdicts(transaction) }];
  };
  const derail = (head: Awaited, reply: Reply): ClientEvent[] => {
    // The refusal itself is still its owner's answer.
    if (head.transaction !== undefined) record(head, head.transaction, reply);
    phase = 'derailed';
    return [{ type: 'out-of-step', at: head.command, reply }];
  };
  const record = (head: Awaited, transaction: Transaction, reply: Reply): void => {
    if (head.command === 'mail') transaction.mail = reply;
    else if (head.command === 'rcpt') transaction.rcpt[head.at ?? 0] = reply;
    else if (head.command === 'data') transaction.data = reply;
    else transaction.finals.push(reply);
  };
  /** Rule 2. */
  const fits = (head: Awaited, transaction: Transaction, reply: Reply): boolean => {
    if (replyClass(reply) >= 4 || head.command === 'mail' || transaction.lone) return true;
    if (transaction.mail === undefined || replyClass(transaction.mail) !== 2) return false;
    return head.command !== 'final' || (transaction.left && acceptedCount(transaction) > 0);
  };
  const answer = (head: Awaited, reply: Reply): ClientEvent[] => {
    const { transaction } = head;
    if (transaction === undefined) return [];
    if (!fits(head, transaction, reply)) return outOfStep(head.command, reply, transaction);
    record(head, transaction, reply);
    const expected = lmtp && head.command === 'final' ? Math.max(1, acceptedCount(transaction)) : 1;
    if (head.command === 'final' && transaction.finals.length < expected) awaiting.unshift(head);
    else transaction.pending--;
    if (transaction === current && isPointless(transaction)) endWithoutMessage(transaction);
    return settle(transaction);
  };
  /** All that was written is answered, and there is nobody to send the message to. */
  const isPointless = (transaction: Transaction): boolean => {
    if (blind || transaction.pending > 0) return false;
    if (isRefused(transaction)) return true;
    if (transaction.data !== undefined) return replyClass(transaction.data) >= 4;
    return transaction.rcptSent === transaction.rcpt.length && acceptedCount(transaction) === 0;
  };

  const EFFECTS: Record<Effect, (head: Awaited, reply: Reply) => ClientEvent[]> = {
    hello() {
      if (!blind) hello();
      return [];
    },
    ready: (_, reply) => (blind ? [] : ready(reply)),
    older(head, reply) {
      // RFC 5321 §3.2: a server without EHLO still takes HELO.
      if (blind || lmtp || older || secured) return refuse(head.command, 'EHLO was refused', reply);
      older = true;
      hello();
      return [];
    },
    refused: (head, reply) => refuse(head.command, REFUSALS[head.command] ?? 'refused', reply),
    upgrade() {
      phase = 'upgrade';
      return [];
    },
    challenge: (_, reply) => challenge(o.credentials, reply),
    enter,
    reset: () => [],
    mail: answer,
    rcpt: answer,
    data: answer,
    final: answer,
    over() {
      phase = 'over';
      return [];
    },
  };

  if (blind) {
    hello();
    phase = 'ready';
  }

  return {
    next() {
      if (phase === 'over') return OVER;
      if (closing !== undefined || phase === 'derailed') return closing && awaiting.length === 0 ? OVER : WAIT;
      if (phase === 'upgrade') return { type: 'upgrade' };
      if (probing) return WAIT;
      const first = queued.shift();
      if (first !== undefined) return command(first.bytes, { command: first.command });
      if (phase !== 'ready') return WAIT;
      const step = advance();
      if (step !== undefined) return step;
      if (room()) return { type: 'offer' };
      if (!finishing || current !== undefined || (awaiting.length > 0 && !blind)) return WAIT;
      phase = 'quitting';
      quit = true;
      return command('QUIT', { command: 'quit' });
    },
    receive(reply) {
      if (phase === 'over' || phase === 'derailed') return [];
      const head = awaiting.shift();
      if (head === undefined && !isGoodbye(reply)) return outOfStep('nothing', reply);
      lastReply = reply;
      if (probing) {
        probing = false;
        ask('', 'noop');
      }
      const kind = replyClass(reply);
      if (head !== undefined && blind && (EXPECTED[head.command] ?? kind) !== kind) return derail(head, reply);
      const events: ClientEvent[] = [];
      if (isClosing(head, reply) && closing === undefined) {
        closing = reply;
        events.push({ type: 'closing', reply });
        if (current !== undefined) current.stage = 'done';
        current = undefined;
      }
      if (head === undefined || (head.command === 'reset' && closing === reply)) return events;
      const effect = LAW[head.command][kind];
      return [
        ...events,
        ...(effect === undefined ? outOfStep(head.command, reply, head.transaction) : EFFECTS[effect](head, reply)),
      ];
    },
    submit({ envelope, size }) {
      const key = keys++;
      const transaction: Transaction = {
        ...{ key, size, envelope, stage: 'reset', rcptSent: 0, pending: 0, framing: 'dot', lone: false },
        ...{
          mailPlace: 0,
          finalPlace: 0,
          mail: undefined,
          data: undefined,
          finals: [],
          left: false,
          perRecipient: lmtp,
        },
        rcpt: envelope.recipients.map(() => undefined),
      };
      open.set(key, transaction);
      current = transaction;
      return key;
    },
    probe() {
      // Behind DATA it would be text of the message.
      const may = phase === 'ready' && closing === undefined && current === undefined && queued.length === 0;
      const commands = awaiting.map((awaited) => awaited.command);
      const free = commands.length > 0 && !commands.some((name) => name === 'data' || name === 'noop');
      if (!may || !free || probing || blind || dialogue === 'lockstep') return undefined;
      probing = true;
      return Buffer.from('NOOP');
    },
    finish() {
      finishing = true;
    },
    places(key) {
      const transaction = open.get(key);
      return transaction && { mail: transaction.mailPlace, final: transaction.finalPlace };
    },
    left(key) {
      const transaction = open.get(key);
      if (transaction !== undefined) transaction.left = true;
    },
    upgraded() {
      secured = true;
      phase = 'opening';
      hello();
    },
    end() {
      const suspect = awaiting.length > 0 && phase !== 'derailed' ? lastReply : undefined;
      phase = 'over';
      const events = [...open.values()].map((transaction): ClientEvent => {
        return { type: 'settled', key: transaction.key, verdicts: verdicts(transaction, { suspect, closing }) };
      });
      open.clear();
      return events;
    },
    get awaiting() {
      return awaiting[0]?.command;
    },
    get open() {
      return open.size;
    },
    get quit() {
      return quit;
    },
    get extensions() {
      return extensions;
    },
  };
}

/** RFC 4616 §2. */
function plainSecret(credentials: Credentials | undefined): string {
  return `\0${credentials?.user}\0${credentials?.password}`;
}

const REFUSALS: Readonly<Partial<Record<AwaitedCommand, string>>> = {
  greeting: 'the server refused the session',
  hello: 'the server refused EHLO',
  starttls: 'the server refused STARTTLS',
  auth: 'the server refused the user name or password',
};

/** RSET cannot be refused (RFC 5321 §4.1.1.5): Exim 4.96 says `554 Too many nonmail commands` there, and closes; all else is out of step. */
function isClosing(head: Awaited | undefined, reply: Reply): boolean {
  if (head?.command === 'reset') return isGoodbye(reply) && replyClass(reply) >= 4;
  return isGoodbye(reply) && reply.code !== 221 && (head === undefined || head.transaction !== undefined);
}

function chooseDialogue(wanted: Dialogue, extensions: Extensions): Exclude<Dialogue, 'auto' | 'bsmtp'> {
  if (!extensions.pipelining || wanted === 'lockstep') return 'lockstep';
  return extensions.chunking && (wanted === 'auto' || wanted === 'stream') ? 'stream' : 'pipelined';
}
