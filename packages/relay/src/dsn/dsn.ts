/** A DSN in the form of RFC 3464, made of what the journal says and nothing else; it is 7-bit, so that every server takes it. */
import { isAscii } from 'node:buffer';
import {
  createMessageChecker,
  type EntryId,
  type Envelope,
  encoderOf,
  type ForwardPath,
  fitted,
  needsSmtputf8,
  type Outcome,
  printable,
  type Recipient,
  type Reply,
  type ReversePath,
  replyText,
  surveyMessage,
} from '@postern/core';
import { mailDate } from '../intake/trace.ts';

/** What a DSN tells (RFC 3464 §2.3.3 Action): `expired` is a failure for lack of time. */
export type DsnKind = 'failed' | 'delayed' | 'relayed' | 'expired';

/** Octets of a message returned whole when its sender did not say RET (RFC 3461 §4.3). */
export const RETURN_BYTES: number = 50 * 1024;
/** Longest line of ours, octets, where a space lets it be broken. */
const LINE = 76;
/** Longest word of a line: an address or a URL is of use only whole, and 998 octets are the most a line may have (RFC 5322 §2.1.1). */
const WORD = 900;
/** Longest text of the far server quoted, characters. */
const QUOTED_TEXT = 900;

/** What a DSN is made of. */
export interface DsnInput {
  readonly kind: DsnKind;
  /** The DSN's own name. */
  readonly id: EntryId;
  /** Our name. */
  readonly hostname: string;
  /** Wall clock, ms. */
  readonly at: number;
  /** Of the message it is about. */
  readonly about: {
    readonly id: EntryId;
    readonly envelope: Envelope;
    readonly size: number;
    readonly arrived: number;
    /** The message itself. */
    open(): AsyncIterable<Uint8Array>;
  };
  readonly recipients: readonly DsnRecipient[];
  /** `delayed`: wall clock, ms, at which it will be given up. */
  readonly retryUntil?: number;
}

/** One recipient in a DSN. */
export interface DsnRecipient {
  readonly recipient: Recipient;
  readonly outcome: Outcome;
  /** Who it was tried at. */
  readonly host?: string;
}

/** A DSN, ready for a spool. */
export interface Dsn {
  readonly envelope: Envelope;
  message(): AsyncIterable<Uint8Array>;
}

/** Whether a recipient wants to hear this (RFC 3461 §4.1, §5.2): by default failures and delays. */
export function wantsDsn(recipient: Recipient, kind: DsnKind): boolean {
  const { notify } = recipient;
  if (kind === 'relayed') return notify?.includes('SUCCESS') ?? false;
  return notify?.includes(kind === 'delayed' ? 'DELAY' : 'FAILURE') ?? true;
}

/** The enhanced status code of an outcome (RFC 3463). */
export function statusOf(outcome: Outcome, kind?: DsnKind): string {
  if (kind === 'expired') return '4.4.7';
  const reply = 'reply' in outcome ? outcome.reply : undefined;
  if (reply?.enhanced !== undefined) return reply.enhanced;
  return { delivered: '2.0.0', deferred: '4.0.0', failed: '5.0.0', uncertain: '4.4.2' }[outcome.type];
}

/**
 * Makes a DSN (RFC 3464) in a multipart/report (RFC 6522) to the reverse-path of the message it is about. Its own reverse-path is null, so that nothing
 * answers it (RFC 3461 §6.1). Throws `RangeError` when the message has a null reverse-path itself: there is nobody to tell.
 */
export function buildDsn(input: DsnInput): Dsn {
  const { envelope } = input.about;
  if (envelope.from === '') throw new RangeError('a message with a null reverse-path gets no DSN');
  return {
    envelope: {
      from: '' as ReversePath,
      recipients: [{ to: envelope.from as string as ForwardPath, notify: ['NEVER'] }],
      body: isUtf8(envelope) ? '8BITMIME' : '7BIT',
      smtputf8: isUtf8(envelope),
    },
    message: () => render(input),
  };
}

/** A DSN is 7-bit, so that every server takes it, unless its sender's own address is not ASCII: then what carries it takes UTF-8 too. */
function isUtf8(envelope: Envelope): boolean {
  return needsSmtputf8(envelope.from);
}

async function* render(input: DsnInput): AsyncGenerator<Uint8Array> {
  const { about } = input;
  const utf8 = isUtf8(about.envelope);
  const boundary = `=_${input.id}_${about.id}`;
  const encoding = `Content-Transfer-Encoding: ${utf8 ? '8bit' : '7bit'}`;
  const told = lines(['', ...explanation(input), '']);
  const quoted = !utf8 && !isAscii(told);
  const returned = await returnedPart(input, utf8);
  yield lines([
    `From: Mail Delivery System <MAILER-DAEMON@${input.hostname}>`,
    `To: <${about.envelope.from}>`,
    `Subject: ${SUBJECT[input.kind]}`,
    `Date: ${mailDate(input.at)}`,
    `Message-ID: <${input.id}@${input.hostname}>`,
    'Auto-Submitted: auto-replied',
    'MIME-Version: 1.0',
    'Content-Type: multipart/report; report-type=delivery-status;',
    `\tboundary="${boundary}"`,
    encoding,
    '',
    'This is a MIME message with a delivery status notification (RFC 3464).',
    '',
    `--${boundary}`,
    'Content-Description: Notification',
    `Content-Type: text/plain; charset=${utf8 || quoted ? 'utf-8' : 'us-ascii'}`,
    quoted ? QUOTED : encoding,
  ]);
  if (quoted) yield* encoded(once(told));
  else yield told;
  yield lines([
    `--${boundary}`,
    'Content-Description: Delivery report',
    `Content-Type: message/${utf8 ? 'global-' : ''}delivery-status`,
    encoding,
    '',
    ...report(input),
    `--${boundary}`,
    `Content-Description: ${returned.full ? 'Your message' : 'Header of your message'}`,
    `Content-Type: ${returned.type}`,
    returned.quoted ? QUOTED : encoding,
    '',
  ]);
  yield* returned.quoted ? encoded(returned.open()) : returned.open();
  yield lines(['', `--${boundary}--`]);
}

const QUOTED = 'Content-Transfer-Encoding: quoted-printable';

/** The last part (RFC 6522 §3): the message or its header. */
interface Returned {
  readonly full: boolean;
  readonly type: string;
  /** As quoted-printable, since it has octets above 127 or long lines (RFC 6522 §4 for headers, RFC 6532 §3.7). */
  readonly quoted: boolean;
  open(): AsyncIterable<Uint8Array>;
}

/** What is returned of the message. One that is signed and could not go in 7 bits unaltered is returned by its header alone. Reads the message to find out. */
async function returnedPart(input: DsnInput, utf8: boolean): Promise<Returned> {
  const { about } = input;
  const headers = (): AsyncIterable<Uint8Array> => headerOnly(about.open());
  if (about.envelope.smtputf8) {
    const full = returnsFull(input);
    const open = full ? () => about.open() : headers;
    const { ascii, long } = await factsOf(open());
    return { full, type: `message/global${full ? '' : '-headers'}`, quoted: long || (!utf8 && !ascii), open };
  }
  if (returnsFull(input)) {
    const survey = surveyMessage({ sevenBit: true });
    for await (const chunk of about.open()) survey.push(chunk);
    const plan = survey.finish();
    const { ascii, long } = await factsOf(fitted(about.open(), plan));
    // A field that may hold no encoded word stays 8-bit, and with it the message.
    if (ascii && !long && !plan.breaksSeal)
      return { full: true, type: 'message/rfc822', quoted: false, open: () => fitted(about.open(), plan) };
  }
  const { ascii, long } = await factsOf(headers());
  return { full: false, type: 'text/rfc822-headers', quoted: long || !ascii, open: headers };
}

async function factsOf(message: AsyncIterable<Uint8Array>): Promise<{ ascii: boolean; long: boolean }> {
  const checker = createMessageChecker({ longLines: true });
  for await (const chunk of message) checker.push(chunk);
  const end = checker.end();
  return end.type === 'fit' ? { ascii: !end.facts.eightBit, long: end.facts.longLines } : { ascii: false, long: true };
}

async function* encoded(message: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const encoder = encoderOf('quoted-printable', '7bit');
  for await (const chunk of message) yield encoder.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
  yield encoder.finish(true);
}

async function* once(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes;
}

function returnsFull({ kind, about }: DsnInput): boolean {
  if (kind === 'delayed' || kind === 'relayed') return false;
  return about.envelope.ret === 'FULL' || (about.envelope.ret === undefined && about.size <= RETURN_BYTES);
}

const SUBJECT: Record<DsnKind, string> = {
  failed: 'Your message could not be delivered',
  expired: 'Your message could not be delivered in time',
  delayed: 'Your message is delayed (no action is needed)',
  relayed: 'Your message was relayed',
};

const OPENING: Record<DsnKind, readonly string[]> = {
  failed: ['Your message could not be delivered to the recipients below.', 'Nothing more is tried for them.'],
  expired: ['Your message could not be delivered in time to the recipients below.', 'Nothing more is tried for them.'],
  delayed: [
    'Your message has not been delivered yet to the recipients below.',
    'It stays in the queue and is tried again; you need not send it again.',
  ],
  relayed: [
    'Your message was handed on to a server that sends no notifications of delivery.',
    'You may not hear of it again.',
  ],
};

function explanation({ kind, hostname, about, recipients }: DsnInput): string[] {
  return [
    `This is the mail relay at ${hostname}.`,
    '',
    ...OPENING[kind],
    '',
    ...recipients.flatMap(({ recipient, outcome, host }) => [
      `<${recipient.to}>`,
      ...fold(`    ${host === undefined ? '' : `${host} said: `}${words(outcome)}`, '        '),
      '',
    ]),
    `The message arrived at ${mailDate(about.arrived)} and is known here as ${about.id}.`,
  ];
}

function words(outcome: Outcome): string {
  if (outcome.type === 'uncertain') return 'the connection was lost before its answer came';
  const text = outcome.reply === undefined ? ('reason' in outcome ? outcome.reason : '') : replyText(outcome.reply);
  return safe(text);
}

/** Text from afar as printable ASCII on one line. */
function safe(text: string): string {
  return printable(text, QUOTED_TEXT).replace(/[^\t\u0020-\u007e]/g, (char) => {
    const code = char.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16)}` : code === 0x2026 ? '...' : '?';
  });
}

const ACTION: Record<DsnKind, string> = { failed: 'failed', expired: 'failed', delayed: 'delayed', relayed: 'relayed' };

function report(input: DsnInput): string[] {
  const { about, hostname, at, kind, retryUntil } = input;
  const { envelope } = about;
  const utf8 = isUtf8(envelope);
  return [
    ...(envelope.envid === undefined ? [] : [`Original-Envelope-Id: ${safe(envelope.envid)}`]),
    `Reporting-MTA: dns; ${hostname}`,
    `Arrival-Date: ${mailDate(about.arrived)}`,
    '',
    ...input.recipients.flatMap(({ recipient, outcome, host }) => [
      ...(recipient.orcpt === undefined ? [] : fold(`Original-Recipient: ${original(recipient.orcpt, utf8)}`)),
      `Final-Recipient: ${finalRecipient(recipient.to, envelope.smtputf8, utf8)}`,
      `Action: ${ACTION[kind]}`,
      `Status: ${statusOf(outcome, kind)}`,
      ...(host === undefined ? [] : [`Remote-MTA: dns; ${safe(host)}`]),
      ...('reply' in outcome && outcome.reply !== undefined
        ? fold(`Diagnostic-Code: smtp; ${diagnostic(outcome.reply)}`)
        : []),
      `Last-Attempt-Date: ${mailDate(at)}`,
      ...(kind === 'delayed' && retryUntil !== undefined ? [`Will-Retry-Until: ${mailDate(retryUntil)}`] : []),
      '',
    ]),
  ];
}

/** In a DSN of 7 bits what is not ASCII is `\\x{…}` (RFC 6533 §3, utf-8-addr-xtext). */
function finalRecipient(to: ForwardPath, smtputf8: boolean, utf8: boolean): string {
  if (!smtputf8) return `rfc822; ${to}`;
  const escaped = (char: string): string => `\\x{${char.codePointAt(0)?.toString(16).toUpperCase()}}`;
  return `utf-8; ${utf8 ? to : to.replace(/[^!-~]|[\\+=]/gu, escaped)}`;
}

function original(orcpt: string, utf8: boolean): string {
  const [type = '', ...rest] = orcpt.split(';');
  const address = rest.join(';');
  return `${safe(type)}; ${utf8 ? printable(address, QUOTED_TEXT) : safe(address)}`;
}

function diagnostic(reply: Reply): string {
  return safe(replyText(reply));
}

/** Breaks a line at spaces; every line but the first starts with `indent`. Only a word that no line can hold is cut. */
function fold(text: string, indent = '\t'): string[] {
  const out: string[] = [];
  let rest = text;
  while (rest.length > LINE) {
    const before = rest.lastIndexOf(' ', LINE);
    const after = rest.indexOf(' ', LINE);
    const space = before > indent.length ? before : after === -1 ? rest.length : after;
    const at = Math.min(space, WORD);
    out.push(rest.slice(0, at));
    const left = rest.slice(at).trimStart();
    if (left === '') return out;
    rest = indent + left;
  }
  return [...out, rest];
}

function lines(parts: readonly string[]): Buffer {
  return Buffer.from(`${parts.join('\r\n')}\r\n`);
}

/** The header of a message, up to and without its empty line. */
async function* headerOnly(message: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let tail = Buffer.alloc(0);
  for await (const chunk of message) {
    const bytes = Buffer.concat([tail, chunk]);
    if (tail.length === 0 && bytes[0] === 13 && bytes[1] === 10) return;
    const end = bytes.indexOf('\r\n\r\n');
    if (end !== -1) {
      yield bytes.subarray(0, end + 2);
      return;
    }
    const keep = Math.min(3, bytes.length);
    yield bytes.subarray(0, bytes.length - keep);
    tail = Buffer.from(bytes.subarray(bytes.length - keep));
  }
  yield tail;
}
