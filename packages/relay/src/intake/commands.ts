/** What MAIL, RCPT, DATA and AUTH are answered: each is refused with its reason, or moves its session's transaction on. */
import { type ForwardPath, type Reply, type ReversePath, replyClass, replyText } from '@postern/core';
import type { SMTPServerDataStream, SMTPServerOptions, SMTPServerSession } from 'smtp-server';
import type { OnRelayEvent } from '../event.ts';
import { type Route, routeKey } from '../route/routes.ts';
import { CutThrough } from './cut-through.ts';
import { type IntakeOptions, type LongLines, MAX_RECIPIENTS } from './options.ts';
import { envelopeOf, receive, recipientOf, relay, type SessionState, type Transaction } from './receive.ts';
import { lacksSmtputf8, type PathCommand, type Refusal, replyError } from './smtp-session.ts';

/** smtp-server's questions. */
export type Handlers = Required<Pick<SMTPServerOptions, 'onAuth' | 'onMailFrom' | 'onRcptTo' | 'onData'>>;
type Callback<H extends keyof Handlers> = Parameters<Handlers[H]>[2];
type Answered = (error?: Error | null) => void;

/** What the answers depend on. */
export interface CommandContext extends Pick<IntakeOptions, 'spool' | 'routes' | 'hostname' | 'directFor' | 'env'> {
  readonly sizeLimit: number;
  readonly longLines: LongLines;
  readonly onEvent: OnRelayEvent;
  readonly sessions: ReadonlyMap<SMTPServerSession, SessionState>;
  /** A draining session's message is over. */
  readonly onSettled: () => void;
}

const GONE: Refusal = { code: 451, text: '4.3.0 Session is gone' };
const NEEDS_SMTPUTF8: Refusal = { code: 553, text: '5.6.7 This address needs SMTPUTF8' };

/** The answers, for smtp-server. */
export function commandHandlers(context: CommandContext): Handlers {
  return {
    onAuth: (auth, session, callback) => answerAuth(context, { password: auth.password, session }, callback),
    onMailFrom: (address, session, callback) => answerMail(context, { ...(address as PathCommand), session }, callback),
    onRcptTo: (address, session, callback) => answerRcpt(context, { ...(address as PathCommand), session }, callback),
    onData: (stream, session, callback) => answerData(context, { stream, session }, callback),
  };
}

type PathIn = PathCommand & { readonly session: SMTPServerSession };

function answerAuth(
  { sessions, onEvent }: CommandContext,
  { password, session }: { password: string | null | undefined; session: SMTPServerSession },
  callback: Callback<'onAuth'>,
): void {
  const state = sessions.get(session);
  if (state?.admission.type === 'open' || state?.admission.verify(password ?? ''))
    return void callback(null, { user: true });
  onEvent({ type: 'auth-failed', session: session.id, peer: state?.peer ?? '' });
  callback(replyError({ code: 535, text: '5.7.8 This is not the local password (see: postern password)' }));
}

function answerMail(
  context: CommandContext,
  { path, given, parameters, refusal, session }: PathIn,
  callback: Answered,
): void {
  const state = context.sessions.get(session);
  const smtputf8 = parameters.has('SMTPUTF8');
  const why = refusal ?? (state === undefined ? GONE : lacksSmtputf8(path, smtputf8) ? NEEDS_SMTPUTF8 : undefined);
  if (why !== undefined || state === undefined)
    return void refuse(context, session, why ?? GONE, callback, { path: given });
  state.transaction?.cut?.close();
  const from = path as ReversePath;
  state.transaction = { from, parameters, smtputf8, recipients: new Map(), cut: undefined };
  // smtp-server 3.21.6 forgets the next message when all of MAIL, RCPT and DATA behind a pipelined message are answered in one turn.
  setImmediate(callback);
}

function answerRcpt(
  context: CommandContext,
  { path, given, parameters, refusal, session }: PathIn,
  callback: Answered,
): void {
  const state = context.sessions.get(session);
  const transaction = state?.transaction;
  const to = path as ForwardPath;
  const route = refusal ?? takeRecipient(context, transaction, to);
  if (state === undefined || transaction === undefined || 'code' in route) {
    const why = 'code' in route ? route : GONE;
    return void refuse(context, session, why, callback, { path: given });
  }
  const recipient = recipientOf(to, parameters);
  if (route.queue !== false) {
    transaction.recipients.set(to, recipient);
    return void callback();
  }
  transaction.cut ??= new CutThrough(route, context.directFor?.(route));
  const size = transaction.parameters.get('SIZE');
  void transaction.cut
    .rcpt(envelopeOf(transaction), { recipient, size: size === undefined ? undefined : Number(size) })
    .then((reply) => {
      if (!context.sessions.has(session)) return;
      if (replyClass(reply) === 2) transaction.recipients.set(to, recipient);
      answer(context, state, reply, callback, { path: given });
    });
}

/** The route that takes one more recipient of the transaction, or why none may. A cut-through of no recipient gives way to another. */
function takeRecipient(
  { routes }: CommandContext,
  transaction: Transaction | undefined,
  to: ForwardPath,
): Route | Refusal {
  if (transaction === undefined) return { code: 503, text: '5.5.1 Need MAIL first' };
  if (lacksSmtputf8(to, transaction.smtputf8)) return NEEDS_SMTPUTF8;
  if (transaction.recipients.size >= MAX_RECIPIENTS) return { code: 452, text: '4.5.3 Too many recipients' };
  const route = routes().take(to, transaction.from)?.route;
  if (route === undefined) return { code: 550, text: '5.7.1 No route takes this recipient' };
  if (transaction.cut?.key === (route.queue === false ? routeKey(route) : undefined)) return route;
  if (transaction.recipients.size > 0) {
    return { code: 452, text: '4.5.3 This recipient goes another way: in a transaction of its own, please' };
  }
  transaction.cut?.close();
  transaction.cut = undefined;
  return route;
}

function answerData(
  context: CommandContext,
  { stream, session }: { stream: SMTPServerDataStream; session: SMTPServerSession },
  callback: Callback<'onData'>,
): void {
  const state = context.sessions.get(session);
  if (state?.transaction === undefined) return void callback(replyError(GONE));
  state.message = new AbortController();
  const { transaction } = state;
  const receiving: Promise<string | Reply | Refusal> =
    transaction.cut === undefined ? receive(context, state, stream) : relay(context, state, stream);
  void receiving.then((result) => {
    transaction.cut?.close();
    state.message = undefined;
    state.transaction = undefined;
    state.committing = false;
    // What is left of a refused message is read and dropped; smtp-server replies after its last octet.
    stream.resume();
    if (typeof result === 'string') callback(null, result);
    else if ('lines' in result) answer(context, state, result, callback);
    else refuse(context, session, result, callback, { peer: state.peer });
    if (state.session.draining) setImmediate(context.onSettled);
  });
}

/** The far side's reply, handed on as it is (cut-through). */
function answer(
  context: CommandContext,
  { session }: SessionState,
  reply: Reply,
  callback: Answered,
  about = {},
): void {
  session.farReply = reply;
  if (replyClass(reply) === 2) callback(null);
  else refuse(context, session.session, { code: reply.code, text: replyText(reply).slice(4) }, callback, about);
}

function refuse(
  { sessions, onEvent }: CommandContext,
  session: SMTPServerSession,
  { code, text }: Refusal,
  callback: Answered,
  { path, peer = sessions.get(session)?.peer ?? '' }: { path?: string; peer?: string } = {},
): void {
  onEvent({ type: 'rejected', session: session.id, peer, code, text, ...(path === undefined ? {} : { path }) });
  callback(replyError({ code, text }));
}
