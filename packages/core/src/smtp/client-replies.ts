/** What a reply means to the SMTP client: `LAW` says it by command and class, `EFFECTS` does it. The rules are told in client.ts. */
import { type Reply, replyClass } from '../outcome.ts';
import { Secret } from '../secret.ts';
import {
  type Awaited,
  type AwaitedCommand,
  ask,
  askHello,
  CAREFUL_TRANSACTIONS,
  type Client,
  type ClientEvent,
  type ClientState,
  type Credentials,
  type Dialogue,
  isBlind,
  type Transaction,
} from './client-state.ts';
import { endWithoutMessage, isRefused } from './client-steps.ts';
import { type Extensions, NO_EXTENSIONS, parseEhlo } from './extensions.ts';
import { acceptedCount, isGoodbye, isInDoubt, type SessionEnd, verdicts } from './verdict.ts';

type Effect =
  | 'hello'
  | 'ready'
  | 'older'
  | 'refused'
  | 'upgrade'
  | 'challenge'
  | 'enter'
  | 'nothing'
  | 'answer'
  | 'over';

/** What the class of a reply means, by the command it answers (rule 1). */
const LAW: Readonly<Record<AwaitedCommand, Readonly<Partial<Record<2 | 3 | 4 | 5, Effect>>>>> = {
  greeting: { 2: 'hello', 4: 'refused', 5: 'refused' },
  hello: { 2: 'ready', 4: 'refused', 5: 'older' },
  starttls: { 2: 'upgrade', 4: 'refused', 5: 'refused' },
  auth: { 2: 'enter', 3: 'challenge', 4: 'refused', 5: 'refused' },
  reset: { 2: 'nothing' },
  mail: { 2: 'answer', 4: 'answer', 5: 'answer' },
  rcpt: { 2: 'answer', 4: 'answer', 5: 'answer' },
  data: { 3: 'answer', 4: 'answer', 5: 'answer' },
  final: { 2: 'answer', 4: 'answer', 5: 'answer' },
  noop: { 2: 'nothing', 4: 'nothing', 5: 'nothing' },
  quit: { 2: 'over', 4: 'over', 5: 'over' },
};

/** In the `bsmtp` dialogue only these classes keep the matching going (rule 5). */
const EXPECTED: Readonly<Partial<Record<AwaitedCommand, 2 | 3>>> = { mail: 2, rcpt: 2, data: 3, final: 2 };

/** What each effect does, and what it tells. */
const EFFECTS: Record<Effect, (client: Client, head: Awaited, reply: Reply) => ClientEvent[]> = {
  hello(client) {
    if (!isBlind(client.state)) askHello(client);
    return [];
  },
  ready: (client, _, reply) => (isBlind(client.state) ? [] : greeted(client, reply)),
  older(client, head, reply) {
    const { state } = client;
    // RFC 5321 §3.2: a server without EHLO still takes HELO.
    if (isBlind(state) || state.lmtp || state.older || state.secured) {
      return refuse(state, head.command, 'EHLO was refused', reply);
    }
    state.older = true;
    askHello(client);
    return [];
  },
  refused: ({ state }, { command }, reply) => refuse(state, command, REFUSALS[command] ?? 'refused', reply),
  upgrade({ state }) {
    state.phase = 'upgrade';
    return [];
  },
  challenge: ({ options, state }, _, reply) => answerChallenge(state, options.credentials, reply),
  enter: (client) => enter(client),
  nothing: () => [],
  answer: ({ state }, head, reply) => takeAnswer(state, head, reply),
  over({ state }) {
    state.phase = 'over';
    return [];
  },
};

const REFUSALS: Readonly<Partial<Record<AwaitedCommand, string>>> = {
  greeting: 'the server refused the session',
  hello: 'the server refused EHLO',
  starttls: 'the server refused STARTTLS',
  auth: 'the server refused the user name or password',
  mail: 'the server refuses MAIL, whoever sends',
};

/** True when a reply of this class may answer the command: all others are out of step (rule 1). */
export function mayAnswer(command: AwaitedCommand, reply: Reply): boolean {
  return LAW[command][replyClass(reply)] !== undefined;
}

/** Matches a reply to the head of what is awaited, and does what it means. */
export function takeReply(client: Client, reply: Reply): ClientEvent[] {
  const { state } = client;
  if (state.phase === 'over' || state.phase === 'derailed') return [];
  const head = state.awaiting.shift();
  if (head === undefined && !isGoodbye(reply)) return outOfStep(state, 'nothing', reply);
  state.lastReply = reply;
  if (state.probing) {
    state.probing = false;
    ask(state, 'noop', '');
  }
  const kind = replyClass(reply);
  if (head !== undefined && isBlind(state) && (EXPECTED[head.command] ?? kind) !== kind)
    return derail(state, head, reply);
  const events = isClosing(head, reply) && state.closing === undefined ? close(state, reply) : [];
  if (head === undefined || (head.command === 'reset' && state.closing === reply)) return events;
  const effect = LAW[head.command][kind];
  const told =
    effect === undefined
      ? outOfStep(state, head.command, reply, head.transaction)
      : EFFECTS[effect](client, head, reply);
  return [...events, ...told];
}

/** The session has ended: what is open is settled by the replies there are (rule 3). */
export function settleAll(state: ClientState): ClientEvent[] {
  const { closing } = state;
  const suspect = state.awaiting.length > 0 && state.phase !== 'derailed' ? state.lastReply : undefined;
  state.phase = 'over';
  return [
    ...settleDoubted(state, state.shut ? 'refused' : undefined),
    ...[...state.open.values()].map((transaction) => settled(state, transaction, { suspect, closing })),
  ];
}

// -- the session ------------------------------------------------------------------------------------------------------

function greeted(client: Client, reply: Reply): ClientEvent[] {
  const { options, state } = client;
  state.extensions = state.older ? NO_EXTENSIONS : parseEhlo(reply);
  if (options.startTls === true && !state.secured) {
    if (!state.extensions.startTls) return refuse(state, 'starttls', 'the server does not offer STARTTLS');
    ask(state, 'starttls', 'STARTTLS');
    return [];
  }
  return options.credentials === undefined ? enter(client) : logIn(state, options.credentials);
}

function enter({ options, state }: Client): ClientEvent[] {
  state.phase = 'ready';
  if (!isBlind(state)) state.dialogue = chooseDialogue(options.dialogue, state.extensions);
  return [{ type: 'ready', extensions: state.extensions, dialogue: state.dialogue }];
}

function chooseDialogue(wanted: Dialogue, extensions: Extensions): Exclude<Dialogue, 'auto' | 'bsmtp'> {
  if (!extensions.pipelining || wanted === 'lockstep') return 'lockstep';
  return extensions.chunking && (wanted === 'auto' || wanted === 'stream') ? 'stream' : 'pipelined';
}

function logIn(state: ClientState, credentials: Credentials): ClientEvent[] {
  const { auth } = state.extensions;
  if (auth.includes('PLAIN')) {
    ask(state, 'auth', new Secret(`AUTH PLAIN ${Buffer.from(plainSecret(credentials)).toString('base64')}`));
  } else if (auth.includes('LOGIN')) ask(state, 'auth', 'AUTH LOGIN');
  else return refuse(state, 'auth', 'the server offers neither AUTH PLAIN nor AUTH LOGIN');
  return [];
}

function answerChallenge(state: ClientState, credentials: Credentials | undefined, reply: Reply): ClientEvent[] {
  if (credentials === undefined) return outOfStep(state, 'auth', reply);
  const plain = state.extensions.auth.includes('PLAIN');
  // A server that overlooks the initial response asks for it (RFC 4954 §4).
  const answers = plain ? [plainSecret(credentials)] : [credentials.user, credentials.password];
  const answer = answers[state.challenges++];
  if (answer === undefined) return outOfStep(state, 'auth', reply);
  ask(state, 'auth', new Secret(Buffer.from(answer).toString('base64')));
  return [];
}

/** RFC 4616 §2. */
function plainSecret({ user, password }: Credentials): string {
  return `\0${user}\0${password}`;
}

function refuse(state: ClientState, at: AwaitedCommand, reason: string, reply?: Reply): ClientEvent[] {
  state.phase = 'over';
  return [{ type: 'refused', at, reason, ...(reply === undefined ? {} : { reply }) }];
}

/** Rule 1: nothing more is matched. What its transaction was told may have been meant for another, so nothing of that counts. */
function outOfStep(
  state: ClientState,
  at: AwaitedCommand | 'nothing',
  reply: Reply,
  transaction?: Transaction,
): ClientEvent[] {
  if (transaction !== undefined) {
    transaction.mail = undefined;
    transaction.data = undefined;
    transaction.rcpt.fill(undefined);
  }
  state.phase = 'over';
  return [{ type: 'out-of-step', at, reply }];
}

/** Rule 5. The refusal itself is still its owner's answer. */
function derail(state: ClientState, head: Awaited, reply: Reply): ClientEvent[] {
  if (head.transaction !== undefined) record(head, head.transaction, reply);
  state.phase = 'derailed';
  return [{ type: 'out-of-step', at: head.command, reply }];
}

/** Rule 4. */
function close(state: ClientState, reply: Reply): ClientEvent[] {
  state.closing = reply;
  if (state.current !== undefined) state.current.stage = 'done';
  state.current = undefined;
  return [{ type: 'closing', reply }];
}

/** RSET cannot be refused (RFC 5321 §4.1.1.5): Exim 4.96 says `554 Too many nonmail commands` there, and closes; all else is out of step. */
function isClosing(head: Awaited | undefined, reply: Reply): boolean {
  if (head?.command === 'reset') return isGoodbye(reply) && replyClass(reply) >= 4;
  const mayClose = head === undefined || head.transaction !== undefined || head.command === 'mail';
  return isGoodbye(reply) && reply.code !== 221 && mayClose;
}

// -- a transaction ----------------------------------------------------------------------------------------------------

function takeAnswer(state: ClientState, head: Awaited, reply: Reply): ClientEvent[] {
  const { transaction } = head;
  if (transaction === undefined) return takeOther(state, reply);
  if (!fits(head, transaction, reply)) return outOfStep(state, head.command, reply, transaction);
  record(head, transaction, reply);
  const expected = state.lmtp && head.command === 'final' ? Math.max(1, acceptedCount(transaction)) : 1;
  if (head.command === 'final' && transaction.finals.length < expected) state.awaiting.unshift(head);
  else transaction.pending--;
  if (transaction === state.current && isPointless(state, transaction)) endWithoutMessage(state, transaction);
  const isTaken = head.command === 'mail' && replyClass(reply) === 2;
  return [...(isTaken ? settleDoubted(state, 'taken') : []), ...settle(state, transaction)];
}

/** Rule 6: the null sender was asked for. A reply of class 4 tells nothing. */
function takeOther(state: ClientState, reply: Reply): ClientEvent[] {
  state.asking = false;
  const kind = replyClass(reply);
  state.dirty ||= kind === 2;
  if (kind === 5) return refuseAll(state);
  return settleDoubted(state, kind === 2 ? 'taken' : undefined);
}

/** Rule 6: none was taken, so no letter is to blame; the session is over. */
function refuseAll(state: ClientState): ClientEvent[] {
  state.shut = true;
  return refuse(state, 'mail', REFUSALS.mail ?? '', state.doubted[0]?.mail);
}

/** The doubted are settled by what is known now. */
function settleDoubted(state: ClientState, otherSender: SessionEnd['otherSender']): ClientEvent[] {
  const { closing } = state;
  return state.doubted
    .splice(0)
    .map((transaction) => settled(state, transaction, { suspect: undefined, closing, otherSender }));
}

function settled(state: ClientState, transaction: Transaction, end?: SessionEnd): ClientEvent {
  state.open.delete(transaction.key);
  return { type: 'settled', key: transaction.key, verdicts: verdicts(transaction, end) };
}

/** Rule 2. */
function fits(head: Awaited, transaction: Transaction, reply: Reply): boolean {
  if (replyClass(reply) >= 4 || head.command === 'mail' || transaction.lone) return true;
  if (transaction.mail === undefined || replyClass(transaction.mail) !== 2) return false;
  return head.command !== 'final' || (transaction.left && acceptedCount(transaction) > 0);
}

function record(head: Awaited, transaction: Transaction, reply: Reply): void {
  if (head.command === 'mail') transaction.mail = reply;
  else if (head.command === 'rcpt') transaction.rcpt[head.at ?? 0] = reply;
  else if (head.command === 'data') transaction.data = reply;
  else transaction.finals.push(reply);
}

/** All that was written is answered, and there is nobody to send the message to. */
function isPointless(state: ClientState, transaction: Transaction): boolean {
  if (isBlind(state) || transaction.pending > 0) return false;
  if (isRefused(state, transaction)) return true;
  if (transaction.data !== undefined) return replyClass(transaction.data) >= 4;
  return transaction.rcptSent === transaction.rcpt.length && acceptedCount(transaction) === 0;
}

/** Rules 3 and 6. */
function settle(state: ClientState, transaction: Transaction): ClientEvent[] {
  if (transaction.stage !== 'done' || transaction.pending > 0) return [];
  state.careful = acceptedCount(transaction) === 0 ? CAREFUL_TRANSACTIONS : Math.max(0, state.careful - 1);
  const { mail } = transaction;
  if (mail === undefined || !isInDoubt(mail)) return [settled(state, transaction)];
  state.doubted.push(transaction);
  if (transaction.envelope.from !== '') return [];
  // It is the null sender itself that was refused: nobody else can be asked for.
  const others = state.doubted.some(({ envelope }) => envelope.from !== '');
  if (!others) return settleDoubted(state, undefined);
  return state.awaiting.length === 0 ? refuseAll(state) : [];
}
