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
  let partial = '';
  let from: { path: ReversePath; parameters: ReadonlyMap<string, string> } | undefined;
  let recipients: Recipient[] = [];
  let dots: DotDecoder | undefined;
  let over = false;

  const fail = (reason: string, line: string): BatchEvent[] => {
    over = true;
    return [{ type: 'malformed', reason, line: line.slice(0, MAX_BATCH_LINE_OCTETS) }];
  };
  const reset = (): void => {
    from = undefined;
    recipients = [];
  };
  const data = (line: string): BatchEvent[] => {
    if (from === undefined || recipients.length === 0) return fail('DATA without MAIL and RCPT', line);
    const envelope = toEnvelope(from, recipients);
    reset();
    dots = createDotDecoder();
    return [{ type: 'envelope', envelope }];
  };
  const command = (line: string): BatchEvent[] => {
    const verb = /^(EHLO|HELO|MAIL FROM:|RCPT TO:|DATA|RSET|NOOP|QUIT)/i.exec(line)?.[1]?.toUpperCase();
    const rest = line.slice(verb?.length ?? 0);
    if (verb === 'EHLO' || verb === 'HELO') return [{ type: 'hello', name: rest.trim() }];
    if (verb === 'DATA') return data(line);
    if (verb === 'NOOP') return [];
    if (verb === 'RSET') reset();
    else if (verb === 'QUIT') {
      over = true;
      return [{ type: 'quit' }];
    } else if (verb === 'MAIL FROM:') {
      const { path, parameters } = splitPath(rest);
      if (from !== undefined) return fail('MAIL twice', line);
      from = { path: parseReversePath(path), parameters };
    } else if (verb === 'RCPT TO:') {
      const { path, parameters } = splitPath(rest);
      recipients.push(toRecipient(parseForwardPath(path), parameters));
    } else return fail('not a command', line);
    return [];
  };
  const safely = (line: string): BatchEvent[] => {
    try {
      return command(Buffer.from(line, 'latin1').toString('utf8'));
    } catch (error) {
      if (error instanceof RangeError) return fail(error.message, line);
      throw error;
    }
  };

  return {
    push(chunk) {
      const events: BatchEvent[] = [];
      let rest: Uint8Array | undefined = chunk;
      while (!over && rest !== undefined && rest.length > 0) {
        if (dots !== undefined) {
          const decoded: { body: Uint8Array; rest?: Uint8Array } = dots.push(rest);
          if (decoded.body.length > 0) events.push({ type: 'body', bytes: decoded.body });
          rest = decoded.rest;
          if (rest !== undefined) {
            dots = undefined;
            events.push({ type: 'message' });
          }
          continue;
        }
        const lf = rest.indexOf(10);
        const text = Buffer.from(lf === -1 ? rest : rest.subarray(0, lf)).toString('latin1');
        partial += text;
        if (partial.length > MAX_BATCH_LINE_OCTETS) events.push(...fail('line too long', partial));
        if (lf === -1) break;
        rest = rest.subarray(lf + 1);
        const line = partial.replace(/\r$/, '');
        partial = '';
        if (!over) events.push(...safely(line));
      }
      return events;
    },
    end() {
      if (over || (dots === undefined && partial === '' && from === undefined)) return [];
      return fail('the batch is cut off', partial);
    },
  };
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
