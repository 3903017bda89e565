/**
 * Batch SMTP (RFC 2442, `application/batch-SMTP`): the client's half of a session, to be read by a program that answers nothing. Writer and
 * reader of the same few commands.
 */
import type { Envelope, ForwardPath, Notify, Recipient, ReversePath } from '../envelope.ts';
import { formatMail, formatRcpt } from './command.ts';
import { createDotDecoder, createDotEncoder, type DotDecoder } from './dot.ts';
import { type Extensions, NO_EXTENSIONS } from './extensions.ts';
import { needsSmtputf8, parseForwardPath, parseReversePath } from './path.ts';
import { decodeXtext } from './xtext.ts';

/** Longest command line a batch may hold, octets. */
export const MAX_BATCH_LINE_OCTETS = 4096;

/** Writes a batch, piece by piece: `hello`, then for each message `envelope`, `body`…, `endBody`, then `end`. */
export interface BatchEncoder {
  /** EHLO. */
  hello(): Uint8Array;
  /** MAIL, RCPT… and DATA. `size` is the message's octets. */
  envelope(envelope: Envelope, o: { size: number }): Uint8Array;
  /** A piece of the message (CRLF line ends), dot-stuffed. */
  body(chunk: Uint8Array): Uint8Array;
  endBody(): Uint8Array;
  /** QUIT. */
  end(): Uint8Array;
}

/** Makes a {@link BatchEncoder}. Parameters are written only for `extensions` the reader is known to take; none when absent. */
export function createBatchEncoder(o: { helo: string; extensions?: Extensions }): BatchEncoder {
  const extensions = o.extensions ?? NO_EXTENSIONS;
  let dots = createDotEncoder();
  return {
    hello: () => Buffer.from(`EHLO ${o.helo}\r\n`),
    envelope(envelope, { size }) {
      dots = createDotEncoder();
      const { smtputf8 } = envelope;
      const rcpts = envelope.recipients.map((recipient) => formatRcpt(recipient, { extensions, smtputf8 }));
      return Buffer.concat([formatMail(envelope, { size, extensions }), ...rcpts, Buffer.from('DATA\r\n')]);
    },
    body: (chunk) => dots.push(chunk),
    endBody: () => dots.end(),
    end: () => Buffer.from('QUIT\r\n'),
  };
}

/** What {@link BatchDecoder} read. */
export type BatchEvent =
  | { readonly type: 'hello'; readonly name: string }
  /** A message begins. */
  | { readonly type: 'envelope'; readonly envelope: Envelope }
  | { readonly type: 'body'; readonly bytes: Uint8Array }
  /** It ended with its dot. A message without this event is cut off: do not deliver it. */
  | { readonly type: 'message' }
  | { readonly type: 'quit' }
  /** Nothing more is read. `line` is latin1, not escaped. */
  | { readonly type: 'malformed'; readonly reason: string; readonly line: string };

/** Reads a batch with CRLF line ends. */
export interface BatchDecoder {
  push(chunk: Uint8Array): BatchEvent[];
  /** After the last chunk: `malformed` when a message or a command was cut off. */
  end(): BatchEvent[];
}

/** Makes a {@link BatchDecoder}. */
export function createBatchDecoder(): BatchDecoder {
  return new BatchReader();
}

class BatchReader implements BatchDecoder {
  #partial = '';
  #from: { path: ReversePath; parameters: ReadonlyMap<string, string> } | undefined;
  #recipients: Recipient[] = [];
  /** Set while a message is read. */
  #dots: DotDecoder | undefined;
  #over = false;

  push(chunk: Uint8Array): BatchEvent[] {
    const events: BatchEvent[] = [];
    let rest: Uint8Array | undefined = chunk;
    while (!this.#over && rest !== undefined && rest.length > 0) {
      rest = this.#dots === undefined ? this.#readLine(rest, events) : this.#readBody(this.#dots, rest, events);
    }
    return events;
  }

  end(): BatchEvent[] {
    if (this.#over || (this.#dots === undefined && this.#partial === '' && this.#from === undefined)) return [];
    return this.#fail('the batch is cut off', this.#partial);
  }

  #readBody(dots: DotDecoder, bytes: Uint8Array, events: BatchEvent[]): Uint8Array | undefined {
    const { body, rest } = dots.push(bytes);
    if (body.length > 0) events.push({ type: 'body', bytes: body });
    if (rest !== undefined) {
      this.#dots = undefined;
      events.push({ type: 'message' });
    }
    return rest;
  }

  #readLine(bytes: Uint8Array, events: BatchEvent[]): Uint8Array | undefined {
    const lf = bytes.indexOf(10);
    this.#partial += Buffer.from(lf === -1 ? bytes : bytes.subarray(0, lf)).toString('latin1');
    if (this.#partial.length > MAX_BATCH_LINE_OCTETS) events.push(...this.#fail('line too long', this.#partial));
    if (lf === -1) return undefined;
    const line = this.#partial.replace(/\r$/, '');
    this.#partial = '';
    if (!this.#over) events.push(...this.#safely(line));
    return bytes.subarray(lf + 1);
  }

  #safely(line: string): BatchEvent[] {
    try {
      return this.#command(Buffer.from(line, 'latin1').toString('utf8'));
    } catch (error) {
      if (error instanceof RangeError) return this.#fail(error.message, line);
      throw error;
    }
  }

  #command(line: string): BatchEvent[] {
    const verb = /^(EHLO|HELO|MAIL FROM:|RCPT TO:|DATA|RSET|NOOP|QUIT)/i.exec(line)?.[1]?.toUpperCase();
    const rest = line.slice(verb?.length ?? 0);
    switch (verb) {
      case 'EHLO':
      case 'HELO':
        return [{ type: 'hello', name: rest.trim() }];
      case 'MAIL FROM:': {
        const { path, parameters } = splitPath(rest);
        if (this.#from !== undefined) return this.#fail('MAIL twice', line);
        this.#from = { path: parseReversePath(path), parameters };
        return [];
      }
      case 'RCPT TO:': {
        const { path, parameters } = splitPath(rest);
        this.#recipients.push(toRecipient(parseForwardPath(path), parameters));
        return [];
      }
      case 'DATA':
        return this.#data(line);
      case 'RSET':
        this.#reset();
        return [];
      case 'NOOP':
        return [];
      case 'QUIT':
        this.#over = true;
        return [{ type: 'quit' }];
      default:
        return this.#fail('not a command', line);
    }
  }

  #data(line: string): BatchEvent[] {
    if (this.#from === undefined || this.#recipients.length === 0) {
      return this.#fail('DATA without MAIL and RCPT', line);
    }
    const envelope = toEnvelope(this.#from, this.#recipients);
    this.#reset();
    this.#dots = createDotDecoder();
    return [{ type: 'envelope', envelope }];
  }

  #reset(): void {
    this.#from = undefined;
    this.#recipients = [];
  }

  #fail(reason: string, line: string): BatchEvent[] {
    this.#over = true;
    return [{ type: 'malformed', reason, line: line.slice(0, MAX_BATCH_LINE_OCTETS) }];
  }
}

/** `<path> KEY=value KEY` */
function splitPath(text: string): { path: string; parameters: ReadonlyMap<string, string> } {
  const [, path, tail = ''] = /^\s*(<(?:"(?:[^"\\]|\\.)*"|[^">])*>|\S+)(.*)$/s.exec(text) ?? [];
  if (path === undefined) throw new RangeError('no path');
  const pairs = tail.split(/\s+/).filter(Boolean);
  return {
    path,
    parameters: new Map(
      pairs.map((pair): [string, string] => {
        const split = pair.indexOf('=');
        return split === -1 ? [pair.toUpperCase(), ''] : [pair.slice(0, split).toUpperCase(), pair.slice(split + 1)];
      }),
    ),
  };
}

function toRecipient(to: ForwardPath, parameters: ReadonlyMap<string, string>): Recipient {
  const notify = parameters.get('NOTIFY')?.toUpperCase().split(',');
  const known = ['NEVER', 'SUCCESS', 'FAILURE', 'DELAY'];
  if (notify?.some((word) => !known.includes(word))) throw new RangeError('NOTIFY is not valid');
  const orcpt = parameters.get('ORCPT');
  return {
    to,
    ...(notify === undefined ? {} : { notify: notify as Notify[] }),
    ...(orcpt === undefined ? {} : { orcpt: decodeXtext(orcpt) }),
  };
}

function toEnvelope(
  from: { path: ReversePath; parameters: ReadonlyMap<string, string> },
  recipients: readonly Recipient[],
): Envelope {
  const { path, parameters } = from;
  const ret = parameters.get('RET')?.toUpperCase();
  const envid = parameters.get('ENVID');
  const utf8 = [path, ...recipients.map(({ to }) => to)].some(needsSmtputf8);
  return {
    from: path,
    recipients,
    body: parameters.get('BODY')?.toUpperCase() === '8BITMIME' ? '8BITMIME' : '7BIT',
    smtputf8: utf8 || parameters.has('SMTPUTF8'),
    ...(ret === 'FULL' || ret === 'HDRS' ? { ret } : {}),
    ...(envid === undefined ? {} : { envid: decodeXtext(envid) }),
  };
}
