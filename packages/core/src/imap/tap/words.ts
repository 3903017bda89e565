/** As much of commands and responses as has to be read to know where a session stands; what cannot be read is left alone. */

/** The beginning of a command. `name` in upper case, with its `UID ` in front where it has one; `at`: where its arguments begin. */
export interface CommandHead {
  readonly tag: string;
  readonly name: string;
  readonly at: number;
}

const HEAD = /^([^\s(){%*"\\\]+]+) +((?:UID +)?[A-Za-z][A-Za-z0-9._-]*)(?: +|(?=\r?\n$))/i;

/** Reads the first line of a command; undefined when it has no tag or no name. */
export function readCommandHead(line: Buffer): CommandHead | undefined {
  const [all = '', tag, name] = HEAD.exec(line.toString('latin1', 0, Math.min(line.length, 512))) ?? [];
  if (tag === undefined || name === undefined) return undefined;
  return { tag, name: name.toUpperCase().replace(/ +/, ' '), at: all.length };
}

/** One argument of a command; a list is given as it stands. Texts are latin1: one character an octet. */
export interface Word {
  readonly type: 'atom' | 'string' | 'list';
  readonly value: string;
  /** Where it begins and ends in the command. */
  readonly from: number;
  readonly to: number;
}

/** Reads the arguments of a command, literals included, as far as they can be read. */
export function readWords(text: string, from: number): Word[] {
  const words: Word[] = [];
  for (let at = from; at < text.length; ) {
    if (/[\s]/.test(text[at] as string)) {
      at++;
      continue;
    }
    const word = readWord(text, at);
    if (word === undefined) return words;
    words.push(word);
    at = word.to;
  }
  return words;
}

const LITERAL = /^~?\{(\d+)[+-]?\}\r?\n/;
const QUOTED = /^"((?:[^"\\\r\n]|\\["\\])*)"/;
const ATOM = /^(?:[^\s()[\]"{]|\[[^\]\r\n]*\])+/;

function readWord(text: string, from: number): Word | undefined {
  if (text[from] === '(') return readList(text, from);
  const rest = text.slice(from, from + 4096);
  const literal = LITERAL.exec(rest);
  if (literal !== null) {
    const begin = from + literal[0].length;
    const to = begin + Number(literal[1]);
    return to > text.length ? undefined : { type: 'string', value: text.slice(begin, to), from, to };
  }
  const quoted = QUOTED.exec(rest);
  if (quoted !== null) {
    const value = (quoted[1] ?? '').replace(/\\(.)/g, '$1');
    return { type: 'string', value, from, to: from + quoted[0].length };
  }
  const atom = ATOM.exec(text.slice(from))?.[0];
  return atom === undefined ? undefined : { type: 'atom', value: atom, from, to: from + atom.length };
}

function readList(text: string, from: number): Word | undefined {
  for (let at = from + 1; at < text.length; ) {
    const sign = text[at] as string;
    if (sign === ')') return { type: 'list', value: text.slice(from, at + 1), from, to: at + 1 };
    if (/\s/.test(sign)) at++;
    else {
      const inner = readWord(text, at);
      if (inner === undefined) return undefined;
      at = inner.to;
    }
  }
  return undefined;
}

/** Writes a string as an argument. Undefined when only a literal could carry it. */
export function quoted(value: string): string | undefined {
  if (/[\0\r\n]/.test(value)) return undefined;
  return `"${value.replace(/["\\]/g, '\\$&')}"`;
}

/** A response's first line, as far as it matters. */
export type ResponseHead =
  | { readonly type: 'continue' }
  /** `* n WORD`. */
  | { readonly type: 'numbered'; readonly n: number; readonly word: string }
  /** `* WORD`. */
  | { readonly type: 'untagged'; readonly word: string }
  | { readonly type: 'tagged'; readonly tag: string; readonly status: string }
  /** Not of the grammar. */
  | { readonly type: 'other' };

const RESPONSE =
  /^(?:\* (?:(\d{1,10}) )?([A-Za-z][A-Za-z0-9._-]*)(?=[ \r\n])|(\+)(?=[ \r\n])|([^\s*+]\S*) (OK|NO|BAD)\b)/i;

/** Reads how a response begins. */
export function readResponseHead(line: Buffer): ResponseHead {
  const [, n, word, plus, tag, status] = RESPONSE.exec(line.toString('latin1', 0, Math.min(line.length, 256))) ?? [];
  if (plus !== undefined) return { type: 'continue' };
  if (n !== undefined && word !== undefined) return { type: 'numbered', n: Number(n), word: word.toUpperCase() };
  if (word !== undefined) return { type: 'untagged', word: word.toUpperCase() };
  if (tag !== undefined && status !== undefined) return { type: 'tagged', tag, status: status.toUpperCase() };
  return { type: 'other' };
}

/** The FLAGS of a FETCH response's first line, without parentheses. */
export function fetchFlags(line: string): string | undefined {
  return /[( ]FLAGS \(([^)]*)\)/i.exec(line)?.[1];
}

/** The UID of a FETCH response's first line; 0 when it has none. */
export function fetchUid(line: string): number {
  return Number(/[( ]UID (\d{1,10})[ )]/i.exec(line)?.[1] ?? 0);
}

/** Whether a FETCH response's first line holds anything besides FLAGS, UID and MODSEQ, which a server may tell unasked. */
export function fetchHasContent(line: string): boolean {
  const rest = line
    .replace(/^\* \d+ FETCH \(/i, '')
    .replace(/FLAGS \([^)]*\)|UID \d+|MODSEQ \(\d+\)/gi, '')
    .replace(/[ )\r\n]/g, '');
  return rest !== '';
}
