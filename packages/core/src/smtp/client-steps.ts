/** What the SMTP client writes next: `STAGES` is the table, a row a stage of the current transaction. */
import { replyClass } from '../outcome.ts';
import {
  type Awaited,
  type Client,
  type ClientState,
  type ClientStep,
  isBlind,
  STREAM_AHEAD_OCTETS,
  STREAM_WINDOW,
  type Transaction,
} from './client-state.ts';
import { formatMail, formatRcpt } from './command.ts';
import { acceptedCount } from './verdict.ts';

const NOTHING: Uint8Array = Buffer.alloc(0);
const WAIT: ClientStep = { type: 'wait' };
const OVER: ClientStep = { type: 'over' };

/** Each stage gives a step, or moves on and gives nothing. */
const STAGES: Record<Transaction['stage'], (state: ClientState, transaction: Transaction) => ClientStep | undefined> = {
  reset(state, transaction) {
    transaction.stage = 'mail';
    const needed = state.dirty || (state.dialogue === 'stream' && transaction.key > 0);
    state.dirty = false;
    return needed ? write(state, 'RSET', { command: 'reset' }) : undefined;
  },
  mail(state, transaction) {
    transaction.stage = 'rcpt';
    transaction.mailPlace = state.places;
    const line = formatMail(transaction.envelope, { size: transaction.size, extensions: state.extensions });
    return write(state, line, { command: 'mail', transaction });
  },
  rcpt(state, transaction) {
    if (isRefused(state, transaction)) {
      endWithoutMessage(state, transaction);
      return undefined;
    }
    const at = transaction.rcptSent;
    const recipient = transaction.envelope.recipients[at];
    if (recipient === undefined) {
      transaction.stage = 'data';
      return undefined;
    }
    transaction.rcptSent++;
    const line = formatRcpt(recipient, {
      extensions: state.extensions,
      smtputf8: transaction.envelope.smtputf8,
    });
    return write(state, line, { command: 'rcpt', transaction, at });
  },
  data(state, transaction) {
    if (state.dialogue === 'stream') {
      const ahead = state.careful === 0 && transaction.size <= STREAM_AHEAD_OCTETS;
      if (transaction.pending > 0 && !ahead) return WAIT;
      transaction.framing = 'chunk';
    }
    transaction.stage = 'message';
    return transaction.framing === 'dot' ? write(state, 'DATA', { command: 'data', transaction }) : undefined;
  },
  message(state, transaction) {
    if (transaction.framing === 'dot' && !isBlind(state)) {
      if (transaction.data === undefined) return WAIT;
      if (acceptedCount(transaction) === 0) return writeLoneDot(state, transaction);
    }
    return writeMessage(state, transaction);
  },
  done: () => undefined,
};

/** The next step of the session; what it writes counts as written, and joins what is awaited. */
export function nextStep({ options, state }: Client): ClientStep {
  if (state.phase === 'over') return OVER;
  if (state.closing !== undefined) return state.awaiting.length === 0 ? OVER : WAIT;
  if (state.phase === 'derailed') return WAIT;
  if (state.phase === 'upgrade') return { type: 'upgrade' };
  if (state.probing) return WAIT;
  const first = state.queued.shift();
  if (first !== undefined) {
    const line = typeof first.line === 'string' ? first.line : first.line.reveal();
    return write(state, line, { command: first.command });
  }
  if (state.phase !== 'ready') return WAIT;
  const step = advance(state);
  if (step !== undefined) return step;
  if (state.doubted.length > 0) return askForAnother(state);
  if (hasRoom(state, options.window ?? STREAM_WINDOW)) return { type: 'offer' };
  if (!state.finishing || state.current !== undefined) return WAIT;
  if (state.awaiting.length > 0 && !isBlind(state)) return WAIT;
  state.phase = 'quitting';
  state.quit = true;
  return write(state, 'QUIT', { command: 'quit' });
}

/** Rule 6: when all is answered, and no other sender was taken by then. The null one must be taken wherever mail is (RFC 5321 §4.5.5). */
function askForAnother(state: ClientState): ClientStep {
  if (state.awaiting.length > 0 || state.asking) return WAIT;
  state.asking = true;
  return write(state, 'MAIL FROM:<>', { command: 'mail' });
}

/** A NOOP without its line end, where one may stand: see {@link ClientMachine.probe}. */
export function probeBytes(state: ClientState): Uint8Array | undefined {
  // Behind DATA it would be text of the message.
  const idle = state.closing === undefined && state.current === undefined && state.queued.length === 0;
  const free =
    state.awaiting.length > 0 && !state.awaiting.some(({ command }) => command === 'data' || command === 'noop');
  const pipelines = state.dialogue === 'pipelined' || state.dialogue === 'stream';
  if (state.phase !== 'ready' || !idle || !free || state.probing || !pipelines) return undefined;
  state.probing = true;
  return Buffer.from('NOOP');
}

/** Nothing more is written of a transaction whose message is for nobody. */
export function endWithoutMessage(state: ClientState, transaction: Transaction): void {
  transaction.stage = 'done';
  state.current = undefined;
  state.dirty = transaction.mail === undefined || replyClass(transaction.mail) === 2;
}

/** Its MAIL was refused, and the replies are waited for. */
export function isRefused(state: ClientState, transaction: Transaction): boolean {
  return !isBlind(state) && transaction.mail !== undefined && replyClass(transaction.mail) !== 2;
}

function advance(state: ClientState): ClientStep | undefined {
  while (state.current !== undefined) {
    if (state.dialogue === 'lockstep' && state.awaiting.length > 0) return WAIT;
    const step = STAGES[state.current.stage](state, state.current);
    if (step !== undefined) return step;
  }
  return undefined;
}

/** May another transaction be offered? `window` is for the `stream` dialogue. */
function hasRoom(state: ClientState, window: number): boolean {
  if (state.current !== undefined || state.finishing || state.closing !== undefined) return false;
  if (state.dialogue === 'lockstep') return state.awaiting.length === 0;
  if (state.dialogue === 'pipelined') return state.open.size < 2;
  return isBlind(state) || state.open.size < window;
}

/** `command`: a line, or the octets of one with its CRLF. */
function write(state: ClientState, command: string | Uint8Array, awaited: Awaited): ClientStep {
  awaitReply(state, awaited);
  return { type: 'write', bytes: typeof command === 'string' ? Buffer.from(`${command}\r\n`) : command };
}

function writeMessage(state: ClientState, transaction: Transaction): ClientStep {
  const { key, framing, size } = transaction;
  transaction.finalPlace = state.places;
  transaction.stage = 'done';
  state.current = undefined;
  awaitReply(state, { command: 'final', transaction });
  const head = framing === 'dot' ? NOTHING : Buffer.from(`BDAT ${size} LAST\r\n`);
  return { type: 'message', key, framing, head };
}

function writeLoneDot(state: ClientState, transaction: Transaction): ClientStep {
  transaction.stage = 'done';
  transaction.lone = true;
  state.current = undefined;
  return write(state, '.', { command: 'final', transaction });
}

/** Rule 1. */
function awaitReply(state: ClientState, awaited: Awaited): void {
  state.awaiting.push(awaited);
  state.places++;
  if (awaited.transaction !== undefined) awaited.transaction.pending++;
}
