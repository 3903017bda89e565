/**
 * Mailboxes and paths (RFC 5321 §4.1.2, with RFC 6531 §3.3 for other scripts). A value of type `ForwardPath` or `ReversePath` was
 * checked here and can go into a command as it is.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { domainToASCII } from 'node:url';
import type { ForwardPath, ReversePath } from '../envelope.ts';

/**
 * Longest path without its angle brackets, octets (RFC 5321 §4.5.3.1.3, erratum 1690). Within it the local part is not held to the 64
 * octets of §4.5.3.1.1: rewritten senders (SRS, VERP) are longer, and §4.5.3.1 asks for no limit where none is needed.
 */
export const MAX_PATH_OCTETS = 254;
/** Longest domain, octets (RFC 5321 §4.5.3.1.2). */
export const MAX_DOMAIN_OCTETS = 255;

/**
 * A Dot-string, and what the field has besides: mailboxes with dots at an end or side by side, of which one large provider has millions. None of it can move
 * a bracket; whether there is such a mailbox is for the far side to say.
 */
const DOT_STRING = /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\u0080-\u{10ffff}-]+$/u;
/** qtextSMTP and quoted-pairSMTP: no control characters, so no line end can hide in a quoted local part. */
const QUOTED_STRING = /^"(?:[\u0020\u0021\u0023-\u005b\u005d-\u007e\u0080-\u{10ffff}]|\\[\u0020-\u007e])*"$/u;
/** Letters, digits, hyphens; underscores are not in the RFC but in the field. */
const LABEL = /^[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/;
/** C1 controls, line and paragraph separators, and lone surrogates have no place in an address. */
const UNFIT = /[\u0080-\u009f\u2028\u2029\ufeff\ufffd]|\p{Surrogate}/u;

/**
 * Reads a forward-path, with or without angle brackets, as it stands in RCPT: `local@domain`, `"quoted"@domain`, `local@[192.0.2.1]`, or
 * `postmaster` alone. A source route in front is dropped (RFC 5321 appendix C). The domain is turned into A-labels.
 * Throws `RangeError` with what is wrong.
 */
export function parseForwardPath(text: string): ForwardPath {
  const mailbox = unwrap(text);
  if (/^postmaster$/i.test(mailbox)) return mailbox as ForwardPath;
  if (mailbox === '') throw new RangeError('the address is empty');
  return parseMailbox(mailbox) as ForwardPath;
}

/** Reads a reverse-path, as {@link parseForwardPath}; `<>` and the empty string are the null reverse-path. Throws `RangeError`. */
export function parseReversePath(text: string): ReversePath {
  const mailbox = unwrap(text);
  return (mailbox === '' ? '' : parseMailbox(mailbox)) as ReversePath;
}

/** The domain in lower case, as A-labels or an address literal; empty for the null reverse-path and for `postmaster`. */
export function domainOf(path: ForwardPath | ReversePath): string {
  const at = path.lastIndexOf('@');
  return at === -1 ? '' : path.slice(at + 1).toLowerCase();
}

/** The local part, as given (quoted where it was). */
export function localPartOf(path: ForwardPath | ReversePath): string {
  const at = path.lastIndexOf('@');
  return at === -1 ? path : path.slice(0, at);
}

/** True when the path can only be sent with SMTPUTF8 (RFC 6531): its local part is not ASCII. */
export function needsSmtputf8(path: ForwardPath | ReversePath): boolean {
  return /[^\u0000-\u007f]/.test(path);
}

function unwrap(text: string): string {
  const inner = text.startsWith('<') && text.endsWith('>') ? text.slice(1, -1) : text;
  return /^@[^":]*:/.test(inner) ? inner.slice(inner.indexOf(':') + 1) : inner;
}

function parseMailbox(mailbox: string): string {
  if (UNFIT.test(mailbox)) throw new RangeError('the address holds a character that no address may hold');
  const at = mailbox.lastIndexOf('@');
  if (at === -1) throw new RangeError('the address has no @');
  const local = mailbox.slice(0, at);
  if (!DOT_STRING.test(local) && !QUOTED_STRING.test(local)) {
    throw new RangeError(`the part before the @ is not valid${/[\s",:;<>()[\]]/.test(local) ? ' unless quoted' : ''}`);
  }
  const path = `${local}@${parseDomain(mailbox.slice(at + 1))}`;
  if (Buffer.byteLength(path) > MAX_PATH_OCTETS) {
    throw new RangeError(`the address is longer than ${MAX_PATH_OCTETS} octets`);
  }
  return path;
}

/**
 * Checks a domain or an address literal (RFC 5321 §4.1.2, §4.1.3) and gives it as A-labels (RFC 5890), a trailing dot dropped. ASCII keeps its
 * case. Throws `RangeError`.
 */
export function parseDomain(text: string): string {
  if (text.startsWith('[')) return parseLiteral(text);
  const ascii = /^[\u0000-\u007f]*$/.test(text) ? text : toALabels(text);
  const domain = ascii.endsWith('.') ? ascii.slice(0, -1) : ascii;
  if (domain === '') throw new RangeError('the domain is empty');
  if (domain.length > MAX_DOMAIN_OCTETS)
    throw new RangeError(`the domain is longer than ${MAX_DOMAIN_OCTETS} characters`);
  if (!domain.split('.').every((label) => LABEL.test(label))) throw new RangeError('the domain is not valid');
  return domain;
}

function toALabels(text: string): string {
  // domainToASCII also decodes %xx and reads numbers as IPv4: only letters and label separators get there.
  if (!/^(?:[\p{L}\p{M}\p{N}\p{So}\u00b7_.\u3002\uff0e\uff61-]|\u200c|\u200d)+$/u.test(text)) {
    throw new RangeError('the domain is not valid');
  }
  const ascii = domainToASCII(text);
  if (ascii === '' || isIPv4(ascii)) throw new RangeError('the domain is not valid');
  return ascii;
}

function parseLiteral(text: string): string {
  const inner = /^\[([\u0021-\u005a\u005e-\u007e]+)\]$/.exec(text)?.[1];
  if (inner === undefined) throw new RangeError('the address literal is not valid');
  const [, tag, content] = /^([A-Za-z0-9-]*[A-Za-z0-9]):(.+)$/.exec(inner) ?? [];
  const valid =
    tag === undefined || content === undefined ? isIPv4(inner) : tag.toLowerCase() !== 'ipv6' || isIPv6(content);
  if (!valid) throw new RangeError('the address literal is not valid');
  return text;
}
