/** The words of the SMTP client and its state: plain values, which can be printed at any moment. */
import type { Envelope } from '../envelope.ts';
import type { Reply } from '../outcome.ts';
import type { Secret } from '../secret.ts';
import { type Extensions, NO_EXTENSIONS } from './extensions.ts';
import type { TransactionReplies, Verdict } from './verdict.ts';

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

/** One message and its recipients, from {@link ClientMachine.submit} to its verdicts. */
export interface Transaction extends TransactionReplies {
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

/** A command that was written and has no reply; `at` is the recipient's place in the envelope. */
export interface Awaited {
  readonly command: AwaitedCommand;
  readonly transaction?: Transaction;
  readonly at?: number;
}

/** A command of the session itself that is not written yet; what answers AUTH is a secret. */
export interface Queued {
  readonly command: AwaitedCommand;
  readonly line: string | Secret;
}

/** Where the session stands. */
export interface ClientState {
  phase: 'opening' | 'upgrade' | 'ready' | 'quitting' | 'derailed' | 'over';
  /** The one in use: `lockstep` until EHLO allows more. */
  dialogue: Exclude<Dialogue, 'auto'>;
  readonly lmtp: boolean;
  /** Oldest first. */
  readonly awaiting: Awaited[];
  readonly queued: Queued[];
  /** Transactions not settled, by their keys. */
  readonly open: Map<number, Transaction>;
  /** The one whose commands are being written. */
  current: Transaction | undefined;
  nextKey: number;
  extensions: Extensions;
  /** TLS stands. */
  secured: boolean;
  /** EHLO was refused: the server is asked with HELO. */
  older: boolean;
  /** Challenges of AUTH that were answered. */
  challenges: number;
  /** No more transactions come. */
  finishing: boolean;
  /** QUIT was written. */
  quit: boolean;
  /** Replies the commands written so far will have had: the place of the next one. */
  places: number;
  /** The server may hold an open MAIL: RSET before the next one. */
  dirty: boolean;
  /** Transactions that wait for their recipients' replies, after one that had none accepted. */
  careful: number;
  /** A NOOP has no line end yet. */
  probing: boolean;
  /** Transactions whose MAIL was refused, perhaps as everybody's is: they are settled when that is known (rule 6). */
  doubted: Transaction[];
  /** The null sender was asked for because of them. */
  asking: boolean;
  /** And it was refused. */
  shut: boolean;
  /** The reply with which the server announced the end. */
  closing: Reply | undefined;
  lastReply: Reply | undefined;
}

/** Options and state: what every row of the tables is handed. */
export interface Client {
  readonly options: ClientOptions;
  readonly state: ClientState;
}

/** The state at the start: the greeting is awaited. */
export function openingState(options: ClientOptions): ClientState {
  return {
    phase: 'opening',
    dialogue: options.dialogue === 'bsmtp' ? 'bsmtp' : 'lockstep',
    lmtp: options.protocol === 'lmtp',
    awaiting: [{ command: 'greeting' }],
    queued: [],
    open: new Map(),
    current: undefined,
    nextKey: 0,
    extensions: NO_EXTENSIONS,
    secured: false,
    older: false,
    challenges: 0,
    finishing: false,
    quit: false,
    places: 1,
    dirty: false,
    careful: options.careful === true ? CAREFUL_TRANSACTIONS : 0,
    probing: false,
    doubted: [],
    asking: false,
    shut: false,
    closing: undefined,
    lastReply: undefined,
  };
}

/** Opens a transaction and makes it the current one. */
export function openTransaction(state: ClientState, { envelope, size }: { envelope: Envelope; size: number }): number {
  const key = state.nextKey++;
  const transaction: Transaction = {
    key,
    envelope,
    size,
    stage: 'reset',
    rcptSent: 0,
    pending: 0,
    framing: 'dot',
    lone: false,
    mailPlace: 0,
    finalPlace: 0,
    mail: undefined,
    rcpt: envelope.recipients.map(() => undefined),
    data: undefined,
    finals: [],
    left: false,
    perRecipient: state.lmtp,
  };
  state.open.set(key, transaction);
  state.current = transaction;
  return key;
}

/** Nothing waits for a reply: the `bsmtp` dialogue (rule 5). */
export function isBlind(state: ClientState): boolean {
  return state.dialogue === 'bsmtp';
}

/** Queues a command of the session itself. */
export function ask(state: ClientState, command: AwaitedCommand, line: string | Secret): void {
  state.queued.push({ command, line });
}

/** Queues EHLO, LHLO or HELO. */
export function askHello({ options, state }: Client): void {
  ask(state, 'hello', `${state.lmtp ? 'LHLO' : state.older ? 'HELO' : 'EHLO'} ${options.helo}`);
}

/**
 * A state in one line, for a log or a table of tests: phase and dialogue, then what is awaited (`rcpt 0.1` is the second recipient of the first
 * transaction), what is queued, and each open transaction's stage. No address, no reply and no secret is in it.
 */
export function formatState(state: ClientState): string {
  const flags = (['secured', 'older', 'finishing', 'quit', 'dirty', 'probing', 'shut'] as const).filter(
    (name) => state[name],
  );
  const awaiting = state.awaiting.map(({ command, transaction, at }) =>
    transaction === undefined ? command : `${command} ${transaction.key}${at === undefined ? '' : `.${at}`}`,
  );
  const open = [...state.open.values()].map(({ key, stage, left }) => `${key} ${stage}${left ? ' left' : ''}`);
  return [
    [state.phase, state.dialogue, ...flags, ...(state.closing === undefined ? [] : ['closing'])].join(' '),
    ...(state.careful > 0 ? [`careful ${state.careful}`] : []),
    ...list('awaits', awaiting),
    ...list(
      'queued',
      state.queued.map(({ command }) => command),
    ),
    ...list('open', open),
    ...list(
      'doubted',
      state.doubted.map(({ key }) => String(key)),
    ),
  ].join('; ');
}

function list(name: string, items: readonly string[]): string[] {
  return items.length === 0 ? [] : [`${name} ${items.join(', ')}`];
}
