/** Bare names in address fields get a domain where they stand, as Postfix's myorigin gives them one; no other octet changes, and what cannot be read is left alone. */
import { isUtf8 } from 'node:buffer';

/** Fields whose names are completed; those of a Resent- block too. Bcc does not leave. */
const ADDRESS_FIELDS = [
  ...['from', 'sender', 'reply-to', 'to', 'cc', 'errors-to', 'return-receipt-to', 'disposition-notification-to'],
  ...['mail-followup-to', 'apparently-to'],
];
/** A Dot-string (RFC 5321 §4.1.2), or one with dots that stand wrong: the far side judges mailboxes. */
const BARE = /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+$/;
const QUOTED = /^"(?:[^"\\]|\\.)*"$/s;

/** True for a field of addresses; `name` in lower case. */
export function isAddressField(name: string): boolean {
  return ADDRESS_FIELDS.includes(name.replace(/^resent-/, ''));
}

/** A field's octets, its name included, with `@domain` behind each bare name: alone, in brackets, in a group, and beside comments and quoted strings. */
export function qualifyField(raw: Buffer, domain: string): Buffer {
  // In other character sets, as raw ISO-2022-JP, an octet that looks like a bracket may be half a letter.
  if (!isUtf8(raw) || /[^\t\r\n\x20-\x7e\x80-\xff]/.test(raw.toString('latin1'))) return raw;
  const text = raw.toString('latin1');
  const ends = bareNames(text, text.indexOf(':') + 1);
  if (ends === undefined || ends.length === 0) return raw;
  const pieces = ends.map((end, at) => text.slice(ends[at - 1] ?? 0, end));
  return Buffer.from(`${pieces.join(`@${domain}`)}@${domain}${text.slice(ends.at(-1))}`, 'latin1');
}

/** A word outside comments: an atom, a quoted string, or a run of whatever else parts no words. */
interface Word {
  readonly text: string;
  /** The index behind it. */
  readonly end: number;
}

/** Where the bare names of a list end, in their order; undefined where its quotes, comments or brackets do not close. */
function bareNames(text: string, start: number): number[] | undefined {
  const ends: number[] = [];
  let words: Word[] = [];
  let bracket: Word[] | undefined;
  for (let at = start; at < text.length; ) {
    const char = text.charAt(at);
    const length = tokenLength(text, at);
    if (length === undefined) return undefined;
    const end = at + length;
    if (char === '<') {
      if (bracket !== undefined) return undefined;
      bracket = [];
    } else if (char === '>') {
      if (bracket === undefined) return undefined;
      ends.push(...bareName(bracket, { quoted: true }));
      bracket = undefined;
      // What stands behind is another address, or nothing that has a meaning.
      words = [BEHIND_BRACKETS];
    } else if (bracket === undefined && (char === ',' || char === ';')) {
      ends.push(...bareName(words, { quoted: false }));
      words = [];
    } else if (bracket === undefined && char === ':') words = [];
    else if (!/[\s(]/.test(char)) (bracket ?? words).push({ text: text.slice(at, end), end });
    at = end;
  }
  if (bracket !== undefined) return undefined;
  return [...ends, ...bareName(words, { quoted: false })];
}

const BEHIND_BRACKETS: Word = { text: '', end: 0 };

/** A quoted string alone may be a name whose address was forgotten: only brackets make it one. */
function bareName([word, ...more]: readonly Word[], o: { quoted: boolean }): number[] {
  if (word === undefined || more.length > 0) return [];
  return BARE.test(word.text) || (o.quoted && QUOTED.test(word.text)) ? [word.end] : [];
}

/** Octets of the blank, comment, quoted string, domain literal, special or word at `at`; undefined when it does not close. */
function tokenLength(text: string, at: number): number | undefined {
  const char = text.charAt(at);
  if (char === '(') return commentLength(text, at);
  const rest = text.slice(at);
  if (char === '"') return /^"(?:[^"\\]|\\.)*"/s.exec(rest)?.[0].length;
  if (char === '[') return /^\[[^\]\\]*\]/.exec(rest)?.[0].length;
  if (/[<>,;:]/.test(char)) return 1;
  return /^(?:\s+|[^\s<>,;:()"[]+)/.exec(rest)?.[0].length ?? undefined;
}

/** Comments nest (RFC 5322 §3.2.2). */
function commentLength(text: string, at: number): number | undefined {
  let depth = 0;
  for (let index = at; index < text.length; index += 1) {
    const char = text.charAt(index);
    if (char === '\\') index += 1;
    else if (char === '(') depth += 1;
    else if (char === ')') {
      depth -= 1;
      if (depth === 0) return index + 1 - at;
    }
  }
  return undefined;
}
