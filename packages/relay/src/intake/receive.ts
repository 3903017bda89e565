/** A message comes in once: checked and traced on its way, into the spool or straight through, and refused with its reason. */
import {
  type Admission,
  createMessageChecker,
  describeFault,
  type EntryId,
  type Env,
  type Envelope,
  type ForwardPath,
  type MessageFacts,
  newEntryId,
  type Recipient,
  type Reply,
  type ReversePath,
  SpoolError,
  type SpoolWriter,
} from '@postern/core';
import type { SMTPServerDataStream } from 'smtp-server';
import type { OnRelayEvent } from '../event.ts';
import type { CutThrough } from './cut-through.ts';
import type { LongLines } from './options.ts';
import { notifyOf, type Refusal, type Session } from './smtp-session.ts';
import { withTrace } from './trace.ts';

/** What MAIL and RCPT have said so far. */
export interface Transaction {
  readonly from: ReversePath;
  readonly parameters: ReadonlyMap<string, string>;
  readonly smtputf8: boolean;
  readonly recipients: Map<string, Recipient>;
  /** All its recipients pass straight through; undefined: into the spool. */
  cut: CutThrough | undefined;
}

/** What the intake knows of a session. */
export interface SessionState {
  readonly session: Session;
  /** For events: address and port, or `unix`. */
  readonly peer: string;
  readonly admission: Exclude<Admission, { type: 'refused' }>;
  transaction: Transaction | undefined;
  /** Set while a message is on its way; aborting gives it up. */
  message: AbortController | undefined;
  /** All of the message is here; the spool decides. */
  committing: boolean;
}

/** Thrown through the spool to end an accept. */
class RefusedMessage extends Error {
  readonly refusal: Refusal;
  constructor(refusal: Refusal) {
    super(refusal.text);
    this.refusal = refusal;
  }
}

/** Where a message goes, and what is told of it. */
export interface ReceiveOptions {
  readonly spool: SpoolWriter;
  readonly hostname: string;
  readonly sizeLimit: number;
  readonly longLines: LongLines;
  readonly env: Env;
  readonly onEvent: OnRelayEvent;
}

interface Incoming {
  readonly id: EntryId;
  readonly transaction: Transaction;
  /** Once it has ended: it has lines that must be encoded. */
  readonly longLines: () => boolean;
  /** Checked, and with its trace line. */
  readonly message: AsyncIterable<Uint8Array>;
  /** For events. */
  readonly about: {
    readonly id: EntryId;
    readonly session: string;
    readonly peer: string;
    readonly who: string;
    readonly from: ReversePath;
  };
}

function incoming(o: ReceiveOptions, state: SessionState, stream: SMTPServerDataStream): Incoming | undefined {
  const { transaction, admission } = state;
  const { session } = state.session;
  if (transaction === undefined) return undefined;
  const id = newEntryId(o.env);
  // RFC 3848, RFC 6531 §4.3.
  const extended = transaction.smtputf8 ? 'UTF8SMTP' : 'ESMTP';
  const protocol = state.session.openingCommand !== 'EHLO' ? 'SMTP' : session.secure ? `${extended}S` : extended;
  let isLong = false;
  const checked = checkedMessage(stream, o, (facts) => {
    isLong = facts.longLines && o.longLines === 'encode';
    state.committing = true;
  });
  const who = admission.type === 'open' ? admission.who : 'password';
  return {
    longLines: () => isLong,
    ...{ id, transaction, about: { id, session: session.id, peer: state.peer, who, from: transaction.from } },
    message: withTrace(checked, { hostname: o.hostname, id, protocol, at: o.env.wallNow() }),
  };
}

/** Spools one message: the text of the 250, or the refusal. */
export async function receive(
  o: ReceiveOptions,
  state: SessionState,
  stream: SMTPServerDataStream,
): Promise<string | Refusal> {
  const mail = incoming(o, state, stream);
  if (mail === undefined) return GONE;
  const { id, transaction, message, longLines, about } = mail;
  try {
    const signal = state.message?.signal;
    await o.spool.accept(envelopeOf(transaction), message, {
      id,
      longLines,
      ...(signal === undefined ? {} : { signal }),
    });
  } catch (error) {
    return refusalOf(error);
  }
  const recipients = transaction.recipients.size;
  o.onEvent({ type: 'accepted', ...about, recipients, size: stream.byteLength });
  return `Ok: queued as ${id}`;
}

/** Passes one message straight through: the far side's final reply, or our refusal. */
export async function relay(
  o: ReceiveOptions,
  state: SessionState,
  stream: SMTPServerDataStream,
): Promise<Reply | Refusal> {
  const mail = incoming(o, state, stream);
  const cut = mail?.transaction.cut;
  if (mail === undefined || cut === undefined) return GONE;
  try {
    const reply = await cut.data(mail.message);
    const to = [...mail.transaction.recipients.values()].map((recipient) => recipient.to);
    o.onEvent({ type: 'passed', ...mail.about, to, host: cut.host, size: stream.byteLength, reply });
    return reply;
  } catch (error) {
    return refusalOf(error);
  }
}

const GONE: Refusal = { code: 451, text: '4.3.0 Session is gone' };

/** A recipient as RCPT names it. */
export function recipientOf(to: ForwardPath, parameters: ReadonlyMap<string, string>): Recipient {
  const notify = notifyOf(parameters);
  const orcpt = parameters.get('ORCPT');
  return { to, ...(notify === undefined ? {} : { notify }), ...(orcpt === undefined ? {} : { orcpt }) };
}

/** The envelope so far. */
export function envelopeOf({ from, parameters, smtputf8, recipients }: Transaction): Envelope {
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

/** The stream's bytes; its only error is a client that left. The stream itself is left alone when the reader gives up. */
async function* untilLeft(stream: SMTPServerDataStream): AsyncGenerator<Buffer> {
  try {
    yield* stream.iterator({ destroyOnReturn: false });
  } catch {
    throw new RefusedMessage({ code: 451, text: '4.4.2 The client left in the middle of its message' });
  }
}

/** The stream's bytes while they are fit to travel; the stream itself is left alone when the reader gives up. */
async function* checkedMessage(
  stream: SMTPServerDataStream,
  { sizeLimit: limit, longLines }: Pick<ReceiveOptions, 'sizeLimit' | 'longLines'>,
  onEnd: (facts: MessageFacts) => void,
): AsyncGenerator<Uint8Array> {
  const checker = createMessageChecker({ longLines: longLines !== 'refuse' });
  let size = 0;
  for await (const chunk of untilLeft(stream)) {
    size += chunk.length;
    if (size > limit) throw new RefusedMessage({ code: 552, text: `5.3.4 The message is larger than ${limit} octets` });
    const fault = checker.push(chunk);
    if (fault !== undefined) throw new RefusedMessage({ code: 554, text: `5.6.0 ${describeFault(fault)}` });
    yield chunk;
  }
  const verdict = checker.end();
  if (verdict.type === 'unfit') throw new RefusedMessage({ code: 554, text: `5.6.0 ${describeFault(verdict.fault)}` });
  onEnd(verdict.facts);
}
