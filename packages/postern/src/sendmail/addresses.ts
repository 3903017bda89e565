/** Recipients as people write them: what could mean two is two, and what is not understood is told by its own text; nobody is left out in silence. */
import addressparser from 'nodemailer/lib/addressparser';

/** A name that may stand alone for a local user, as in `To: root` (RFC 5321 §4.1.2 Dot-string). */
const LOCAL_NAME = /^[^\s()<>[\]:;@\\,."]+(?:\.[^\s()<>[\]:;@\\,."]+)*$/;
/** Something with a domain; whether it can be an address is judged later. */
const WITH_DOMAIN = /^(?:"(?:[^"\\]|\\.)*"|[^\s"<>()@]+)@[^\s"<>()@]+$/;

/** What an address field names. */
export interface AddressList {
  readonly addresses: readonly string[];
  /** Pieces in which there is no address, or more than can be told apart, as they were written. */
  readonly faults: readonly string[];
}

/**
 * The addresses of an address field's value (RFC 5322 §3.4): groups opened, comments and display names left out, a bare local name as it is. Addresses with
 * no more than a space, a semicolon or a closing bracket between them are as many recipients.
 */
export function readAddresses(value: string): AddressList {
  const addresses: string[] = [];
  const faults: string[] = [];
  let carried = '';
  for (const piece of splitList(value)) {
    // Each piece alone: the parser takes `root, Ann <ann@x>` for one display name with a comma, and root would get nothing.
    const bracketed = withoutComments(piece).trimEnd().endsWith('>');
    // Only `Ann Lee, PhD <ann@x>` is a display name with a comma in it.
    if (carried !== '' && !bracketed) faults.push(nameIn(carried));
    const text = bracketed ? `${carried}${piece}` : piece;
    carried = '';
    const words = splitAt(withoutComments(text), /\s/);
    if (!bracketed && words.length > 1 && words.some((word) => WITH_DOMAIN.test(word))) {
      // `a@x b@x` forgot its comma; `Ann ann@x` may be a name or a local user.
      if (words.every((word) => WITH_DOMAIN.test(word))) addresses.push(...words);
      else faults.push(text.trim());
      continue;
    }
    for (const { address, name } of addressparser(text, { flatten: true })) {
      if (address !== '') addresses.push(address);
      else if (LOCAL_NAME.test(name) && carried === '') addresses.push(name);
      else carried = `${text}, `;
    }
  }
  if (carried !== '') faults.push(nameIn(carried));
  return { addresses, faults };
}

/** What was carried, as it was written. */
function nameIn(carried: string): string {
  return carried.slice(0, -2).trim();
}

/** Cuts a list at its commas and semicolons, and behind each `<address>`; the names of groups are left out. */
function splitList(value: string): string[] {
  const pieces: string[] = [];
  let start = 0;
  const cut = (end: number, next: number): void => {
    pieces.push(value.slice(start, end));
    start = next;
  };
  scan(value, (char, at) => {
    if (char === ':') start = at + 1;
    else if (char === ',' || char === ';') cut(at, at + 1);
    // A comment behind it is its own (RFC 5322 §3.2.2).
    else if (char === '>' && !/^[\s,;]*(?:$|[,;(])/.test(value.slice(at + 1))) cut(at + 1, at + 1);
  });
  cut(value.length, value.length);
  return pieces.filter((piece) => withoutComments(piece).trim() !== '');
}

/** Cuts at a character outside quoted strings, comments and brackets. */
function splitAt(value: string, separator: RegExp): string[] {
  const pieces: string[] = [];
  let start = 0;
  scan(value, (char, at) => {
    if (!separator.test(char)) return;
    pieces.push(value.slice(start, at));
    start = at + 1;
  });
  return [...pieces, value.slice(start)].filter((piece) => piece !== '');
}

function withoutComments(value: string): string {
  let kept = '';
  let depth = 0;
  let quoted = false;
  for (let at = 0; at < value.length; at += 1) {
    const char = value.charAt(at);
    const pair = char === '\\' ? value.slice(at, at + 2) : char;
    if (pair === '"' && depth === 0) quoted = !quoted;
    if (pair === '(' && !quoted) depth += 1;
    if (depth === 0) kept += pair;
    if (pair === ')' && depth > 0) {
      depth -= 1;
      kept += depth === 0 ? ' ' : '';
    }
    at += pair.length - 1;
  }
  return kept;
}

/** Calls `see` for each character outside quoted strings, comments, angle brackets and domain literals, and for the brackets that close one. */
function scan(value: string, see: (char: string, at: number) => void): void {
  const open: string[] = [];
  const closing: Readonly<Record<string, string>> = { '"': '"', '(': ')', '<': '>', '[': ']' };
  for (let at = 0; at < value.length; at += 1) {
    const char = value.charAt(at);
    const inside = open.at(-1);
    const closes = closing[char];
    if (char === '\\') at += 1;
    else if (inside !== undefined && char === inside) {
      open.pop();
      if (open.length === 0) see(char, at);
    } else if (inside === '"') continue;
    else if (inside === ')') {
      if (char === '(') open.push(')');
    } else if (closes !== undefined) open.push(closes);
    else if (inside === undefined) see(char, at);
  }
}
