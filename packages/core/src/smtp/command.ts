/** MAIL and RCPT as a client writes them: with the parameters the server's EHLO listed, and no other. */
import type { Envelope, Recipient } from '../envelope.ts';
import type { Outcome } from '../outcome.ts';
import type { Extensions } from './extensions.ts';
import { encodeXtext } from './xtext.ts';

/** Longest ENVID, octets of xtext (RFC 3461 §4.4), and ORCPT (§4.2). What is longer is left out. */
export const MAX_ENVID_OCTETS = 100;
/** See {@link MAX_ENVID_OCTETS}. */
export const MAX_ORCPT_OCTETS = 500;

/** The MAIL command with its CRLF. `size` is the message's octets without dot-stuffing (RFC 1870 §3). */
export function formatMail(envelope: Envelope, o: { size: number; extensions: Extensions }): Buffer {
  const { extensions } = o;
  const envid = envelope.envid === undefined ? '' : encodeXtext(envelope.envid);
  const parameters = [
    extensions.size && `SIZE=${o.size}`,
    extensions.eightBitMime && envelope.body === '8BITMIME' && 'BODY=8BITMIME',
    extensions.smtputf8 && envelope.smtputf8 && 'SMTPUTF8',
    extensions.dsn && envelope.ret !== undefined && `RET=${envelope.ret}`,
    extensions.dsn && envid !== '' && envid.length <= MAX_ENVID_OCTETS && `ENVID=${envid}`,
  ];
  return line('MAIL FROM:', envelope.from, parameters);
}

/** The RCPT command with its CRLF. */
export function formatRcpt(recipient: Recipient, o: { extensions: Extensions; smtputf8?: boolean }): Buffer {
  const orcpt = recipient.orcpt === undefined ? '' : formatOrcpt(recipient.orcpt, o.smtputf8 === true);
  const parameters = [
    o.extensions.dsn && recipient.notify?.length && `NOTIFY=${recipient.notify.join(',')}`,
    o.extensions.dsn && orcpt !== '' && orcpt.length <= MAX_ORCPT_OCTETS && `ORCPT=${orcpt}`,
  ];
  return line('RCPT TO:', recipient.to, parameters);
}

function line(verb: string, path: string, parameters: readonly (string | false | undefined | 0)[]): Buffer {
  return Buffer.from(`${[`${verb}<${path}>`, ...parameters.filter(Boolean)].join(' ')}\r\n`, 'utf8');
}

/** RFC 6533 §3: an address of another script is `utf-8;` with `\x{…}` for what is not ASCII (utf-8-addr-xtext). */
function formatOrcpt(orcpt: string, smtputf8: boolean): string {
  const split = orcpt.indexOf(';');
  if (split < 1) return '';
  const type = orcpt.slice(0, split);
  const address = orcpt.slice(split + 1);
  if (!/^[A-Za-z0-9-]+$/.test(type) || address === '') return '';
  if (!/[^\u0000-\u007f]/.test(address)) return `${type};${encodeXtext(address)}`;
  if (!smtputf8) return '';
  const escaped = Array.from(address, (char) =>
    char > '\u007f' || char < '!' || char === '\\' || char === '+' || char === '='
      ? `\\x{${char.codePointAt(0)?.toString(16).toUpperCase()}}`
      : char,
  );
  return `utf-8;${escaped.join('')}`;
}

/**
 * Why a server with these extensions cannot be given this message at all, as the outcome of each of its recipients; undefined when it can.
 * A message in a queue was converted before it came here (RFC 6152 §3); what passes straight through is not.
 */
export function unsendable(envelope: Envelope, o: { size: number; extensions: Extensions }): Outcome | undefined {
  const { extensions, size } = o;
  if (extensions.maxSize !== undefined && size > extensions.maxSize) {
    return refusal('5.3.4', `the message has ${size} octets, the far server takes ${extensions.maxSize}`);
  }
  if (envelope.smtputf8 && !extensions.smtputf8) {
    return refusal('5.6.7', 'the message needs SMTPUTF8, which the far server does not offer');
  }
  if (envelope.body === '8BITMIME' && !extensions.eightBitMime) {
    return refusal('5.6.3', 'the message has 8-bit text, and the far server does not offer 8BITMIME');
  }
  return undefined;
}

function refusal(enhanced: string, reason: string): Outcome {
  return { type: 'failed', reason: `${enhanced} ${reason}` };
}
