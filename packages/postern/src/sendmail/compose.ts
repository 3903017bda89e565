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
import { readAddresses } from './addresses.ts';
import type { SubmitRequest } from './args.ts';
import { type Field, fieldValue } from './header.ts';
import { isAddressField, qualifyField } from './qualify.ts';

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
  /** Recipients of the header that cannot be sent to, as they stand there; the others are sent to. */
  readonly refused: readonly RefusedRecipient[];
}

/** A recipient that is left out, and why. */
export interface RefusedRecipient {
  readonly text: string;
  readonly why: string;
}

const RECIPIENT_FIELDS = ['to', 'cc', 'bcc'];

/**
 * Envelope and header of a submitted message. Recipients are those of the command line and, with `-t`, those of To, Cc and Bcc besides
 * (of the newest Resent- block alone, where there is one, RFC 5322 §3.6.6), each once. Bcc and Resent-Bcc are taken out; a Received line
 * is put in front; From, Date and Message-ID are added where missing, and a domain to bare names in address fields; every other octet stays. An address of the command line that cannot be used stops all of
 * it, one of the header that one alone. Throws {@link PosternError} `data`.
 */
export function compose(request: SubmitRequest, fields: readonly Field[], stamp: Stamp): Composed {
  const given = recipientsIn(request.recipients, stamp);
  const [wrong] = given.refused;
  if (wrong !== undefined) throw data(`${JSON.stringify(printable(wrong.text))}: ${wrong.why}`);
  const { paths: named, refused } = recipientsIn(request.fromHeader ? recipientValues(fields) : [], stamp);
  const paths = [...new Set([...given.paths, ...named])];
  if (paths.length === 0) throw data(noRecipient(refused));
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
      ...fields
        .filter((field) => field.name !== 'bcc' && field.name !== 'resent-bcc')
        .map(({ name, raw }) => (isAddressField(name) ? qualifyField(raw, stamp.domain) : raw)),
      Buffer.from('\r\n'),
    ]),
    refused,
  };
}

function noRecipient([first]: readonly RefusedRecipient[]): string {
  if (first === undefined) return 'no recipient in To, Cc or Bcc';
  return `no recipient can be used: ${JSON.stringify(printable(first.text))}: ${first.why}`;
}

function data(message: string): PosternError {
  return new PosternError('data', `${message}; nothing was sent`);
}

/** Values of the fields that name recipients. */
function recipientValues(fields: readonly Field[]): string[] {
  const resent = newestResent(fields).filter((field) => RECIPIENT_FIELDS.includes(field.name.slice('resent-'.length)));
  const used = resent.length > 0 ? resent : fields.filter((field) => RECIPIENT_FIELDS.includes(field.name));
  return used.map((field) => fieldValue(field));
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

function recipientsIn(
  values: readonly string[],
  stamp: Stamp,
): { paths: ForwardPath[]; refused: readonly RefusedRecipient[] } {
  const paths: ForwardPath[] = [];
  const refused: RefusedRecipient[] = [];
  for (const { addresses, faults } of values.map(readAddresses)) {
    for (const text of faults) refused.push({ text, why: 'there is no address in it, or no comma between two' });
    for (const text of addresses) {
      try {
        paths.push(parseForwardPath(qualify(text, stamp)));
      } catch (error) {
        refused.push({ text, why: (error as Error).message });
      }
    }
  }
  return { paths, refused };
}

function senderPath(address: string, stamp: Stamp): ReversePath {
  const { addresses, faults } = readAddresses(address);
  const [first = '', ...more] = addresses;
  if (more.length > 0 || faults.length > 0)
    throw data(`${JSON.stringify(printable(address))}: a sender is one address`);
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
