/** Makes a message of what a program wrote: header fields that are missing are added, no other is changed. */
import {
  type EntryId,
  type Envelope,
  type ForwardPath,
  needsSmtputf8,
  parseForwardPath,
  parseReversePath,
  printable,
  type ReversePath,
} from '@postern/core';
import { encodeWord, isPlainText, quoteString } from 'nodemailer/lib/mime-funcs';
import { PosternError } from '../base/errors.ts';
import { addressesIn } from './addresses.ts';
import type { SubmitRequest } from './args.ts';
import { type Field, fieldValue } from './header.ts';

/** Who submits. */
export interface Identity {
  /** Login name. */
  readonly user: string;
  /** Completes addresses without a domain; also the right side of a Message-ID. */
  readonly domain: string;
  /** For a From line made here, when `-F` gives none. */
  readonly fullName?: string;
}

/** What is stamped on a message. */
export interface Stamp extends Identity {
  /** Wall clock, ms. */
  readonly now: number;
  /** Names the entry, and the message where it has no Message-ID. */
  readonly id: EntryId;
}

/** A message ready to be spooled, but for its body. */
export interface Composed {
  /** `body` is not yet known. */
  readonly envelope: Omit<Envelope, 'body'>;
  /** The header and the empty line after it. */
  readonly header: Buffer;
}

const RECIPIENT_FIELDS = ['to', 'cc', 'bcc'];

/**
 * Envelope and header of a submitted message. Recipients are those of the command line and, with `-t`, those of To, Cc and Bcc besides
 * (of the newest Resent- block alone, where there is one, RFC 5322 §3.6.6), each once. Bcc and Resent-Bcc are taken out; a Received line
 * is put in front; From, Date and Message-ID are added where missing; every other octet stays. Throws {@link PosternError} `data`.
 */
export function compose(request: SubmitRequest, fields: readonly Field[], stamp: Stamp): Composed {
  const given = request.recipients.flatMap((word) => addressesIn(word));
  const addresses = [...given, ...(request.fromHeader ? headerRecipients(fields) : [])];
  if (addresses.length === 0) throw data('no recipient in To, Cc or Bcc');
  const paths = [...new Set(addresses.map((address) => recipientPath(address, stamp)))];
  const from = senderPath(request.sender ?? stamp.user, stamp);
  return {
    envelope: {
      from,
      recipients: paths.map((to) => ({ to, ...(request.notify === undefined ? {} : { notify: request.notify }) })),
      // Raw 8-bit text in other fields is old custom that servers without SMTPUTF8 pass on; asking for it would bounce such mail.
      smtputf8: [from, ...paths].some((path) => needsSmtputf8(path)),
      ...(request.ret === undefined ? {} : { ret: request.ret }),
      ...(request.envid === undefined ? {} : { envid: request.envid }),
    },
    header: Buffer.concat([
      Buffer.from(added(request, fields, from, stamp)),
      ...fields.filter((field) => field.name !== 'bcc' && field.name !== 'resent-bcc').map((field) => field.raw),
      Buffer.from('\r\n'),
    ]),
  };
}

function data(message: string): PosternError {
  return new PosternError('data', `${message}; nothing was sent`);
}

function headerRecipients(fields: readonly Field[]): string[] {
  const resent = newestResent(fields).filter((field) => RECIPIENT_FIELDS.includes(field.name.slice('resent-'.length)));
  const used = resent.length > 0 ? resent : fields.filter((field) => RECIPIENT_FIELDS.includes(field.name));
  return used.flatMap((field) => addressesIn(fieldValue(field)));
}

/** The first block of Resent- fields: an older one shows by a second Resent-From, -Date or -Message-ID, of which a block has one each. */
function newestResent(fields: readonly Field[]): Field[] {
  const resent = fields.filter((field) => field.name.startsWith('resent-'));
  const seen = new Set<string>();
  const older = resent.findIndex(({ name }) => {
    if (!['resent-from', 'resent-date', 'resent-message-id'].includes(name)) return false;
    if (seen.has(name)) return true;
    seen.add(name);
    return false;
  });
  return older < 0 ? resent : resent.slice(0, older);
}

function qualify(address: string, stamp: Stamp): string {
  return address.includes('@') ? address : `${address}@${stamp.domain}`;
}

function recipientPath(address: string, stamp: Stamp): ForwardPath {
  try {
    return parseForwardPath(qualify(address, stamp));
  } catch (error) {
    throw data(`${JSON.stringify(printable(address))}: ${(error as Error).message}`);
  }
}

function senderPath(address: string, stamp: Stamp): ReversePath {
  const [first = '', ...more] = address === '' ? [''] : addressesIn(address);
  if (more.length > 0) throw data(`${JSON.stringify(printable(address))}: a sender is one address`);
  try {
    return parseReversePath(first === '' ? '' : qualify(first, stamp));
  } catch (error) {
    throw data(`sender ${JSON.stringify(printable(address))}: ${(error as Error).message}`);
  }
}

function added(request: SubmitRequest, fields: readonly Field[], from: ReversePath, stamp: Stamp): string {
  const has = (name: string): boolean => fields.some((field) => field.name === name);
  const date = mailDate(stamp.now);
  const lines = [`Received: from localhost by ${stamp.domain} (Postern)`, `\twith local id ${stamp.id};`, `\t${date}`];
  if (!has('from')) lines.push(fromLine(request.fullName ?? stamp.fullName ?? '', from || qualify(stamp.user, stamp)));
  if (!has('date')) lines.push(`Date: ${date}`);
  if (!has('message-id')) lines.push(`Message-ID: <${stamp.id}@${stamp.domain}>`);
  return `${lines.join('\r\n')}\r\n`;
}

function fromLine(name: string, address: string): string {
  const clean = name.replace(/[\u0000-\u001f\u007f]+/g, ' ').trim();
  if (clean === '') return `From: ${address}`;
  const shown = isPlainText(clean) ? quoteString(clean) : encodeWord(clean, 'B', 52);
  return `From: ${shown}\r\n <${address}>`;
}

/** A date as RFC 5322 §3.3 writes it, in UTC: the header need not tell where the sender is. */
export function mailDate(wallMs: number): string {
  return new Date(wallMs).toUTCString().replace('GMT', '+0000');
}
