/** What the relay puts in front of a message; the rest is kept byte for byte, but for the line an mbox puts there. */
import type { EntryId } from '@postern/core';

/** Octets of a header looked through for Message-ID and Date; what comes later is taken to be there. */
export const HEADER_BYTES: number = 256 * 1024;

/** What the trace line tells (RFC 5321 §4.4). */
export interface Trace {
  /** Our name. */
  readonly hostname: string;
  readonly id: EntryId;
  /** `ESMTP`, `SMTP`, `UTF8SMTP` (RFC 3848, RFC 6531 §4.3). */
  readonly protocol: string;
  /** Wall clock, ms. */
  readonly at: number;
}

/** A date as RFC 5322 §3.3 has it, in UTC. */
export function mailDate(at: number): string {
  return new Date(at).toUTCString().replace('GMT', '+0000');
}

/** The line put in front of a message. It names neither the client's address nor its user: both are nobody's business. */
export function receivedLine({ hostname, id, protocol, at }: Trace): string {
  return `Received: from localhost by ${hostname} (Postern)\r\n\twith ${protocol} id ${id};\r\n\t${mailDate(at)}\r\n`;
}

/** The fields to put in front of a message whose first octets are given (latin1). */
export function leadingFields(head: string, trace: Trace): string {
  const emptyHeader = head.startsWith('\r\n') || head === '';
  const isHeader = emptyHeader || /^[!-9;-~]+[ \t]*:/.test(head);
  const end = head.indexOf('\r\n\r\n');
  const header = emptyHeader || !isHeader ? '' : end === -1 ? head : head.slice(0, end + 2);
  let fields = receivedLine(trace);
  if (!/^message-id[ \t]*:/im.test(header)) fields += `Message-ID: <${trace.id}@${trace.hostname}>\r\n`;
  if (!/^date[ \t]*:/im.test(header)) fields += `Date: ${mailDate(trace.at)}\r\n`;
  // A message that starts with text has no header: what we put in front must not become one with it.
  return isHeader ? fields : `${fields}\r\n`;
}

/** A message with its trace line, and Message-ID and Date where they were missing; the rest byte for byte. */
export async function* withTrace(message: AsyncIterable<Uint8Array>, trace: Trace): AsyncGenerator<Uint8Array> {
  let head: Buffer | undefined = Buffer.alloc(0);
  for await (const chunk of message) {
    if (head === undefined) {
      yield chunk;
      continue;
    }
    head = Buffer.concat([head, chunk]);
    if (!isComplete(head)) continue;
    yield* traced(head, trace);
    head = undefined;
  }
  if (head !== undefined) yield* traced(head, trace);
}

function* traced(head: Buffer, trace: Trace): Generator<Buffer> {
  const message = withoutMboxLine(head);
  yield Buffer.from(leadingFields(message.toString('latin1'), trace), 'latin1');
  yield message;
}

/**
 * A first line `From ann@x Fri Nov 27 …`, or `>From …`, is what an mbox puts between messages (RFC 4155). Left there it would end the header before it has begun; Postfix
 * drops it too. One with no header behind it is text.
 */
function withoutMboxLine(head: Buffer): Buffer {
  const [line] = /^>?From [^\r\n]*\r\n(?=[!-9;-~]+[ \t]*:)/.exec(head.toString('latin1', 0, MBOX_LINE)) ?? [];
  return line === undefined ? head : head.subarray(line.length);
}

/** Where an mbox line and the name of the field behind it end at the latest, octets. */
const MBOX_LINE = 1200;

function isComplete(head: Buffer): boolean {
  return (
    head.length >= HEADER_BYTES || head.includes('\r\n\r\n') || (head.length >= 2 && head[0] === 13 && head[1] === 10)
  );
}
