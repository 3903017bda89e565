/** 8-bit text of a header as encoded words (RFC 2047), where they may stand: free text, display names and comments. All else of a header is left as it is. */
import { isUtf8 } from 'node:buffer';

/** Fields that are text from end to end (RFC 5322 §3.6.5, RFC 2045 §8); so are those that begin with `X-`. */
const TEXT_FIELDS = ['subject', 'comments', 'content-description', 'organization', 'thread-topic'];
/** Fields of addresses (RFC 5322 §3.6.2, §3.6.3). */
const ADDRESS_FIELDS = ['from', 'sender', 'reply-to', 'to', 'cc', 'bcc'];
/** Octets in one word: base64 makes 44 characters of them, and with the frame no word is over 75. */
const WORD_OCTETS = 33;

/** A header in latin1, one char for each octet, with its 8-bit text encoded. Lines end in CRLF. */
export function encodeHeaderWords(fields: string): string {
  return fields.replace(
    /^([!-9;-~]+)([ \t]*:)(.*(?:\r\n[ \t].*)*)/gm,
    (field, name: string, colon: string, value: string) => {
      if (isAscii(value)) return field;
      const kind = name.toLowerCase();
      const text = value.replace(/\r\n(?=[ \t])/g, '');
      if (TEXT_FIELDS.includes(kind) || kind.startsWith('x-')) return `${name}${colon}${inText(text)}`;
      if (ADDRESS_FIELDS.includes(kind.replace(/^resent-/, ''))) return `${name}${colon}${inAddresses(text)}`;
      return field;
    },
  );
}

/**
 * What 8-bit octets that nobody labelled are called: `utf-8` when they are that, which is no accident in text of any length; else `unknown-8bit`
 * (RFC 1428 §3), which readers show in the set their user expects. A guess, such as iso-8859-1, would be wrong for half the world.
 */
export function charsetOf(octets: Buffer): 'utf-8' | 'unknown-8bit' {
  return isUtf8(octets) ? 'utf-8' : 'unknown-8bit';
}

/** From the first word with 8-bit text to the last, the blanks between them included: those between encoded words are not shown. */
function inText(text: string): string {
  return text.replace(/\S*[\u0080-\u00ff](?:.*[\u0080-\u00ff])?\S*/s, (words) => encodeWords(words));
}

const TOKEN = /"(?:\\.|[^"\\])*"|\((?:\\.|[^()\\])*\)|<[^>]*>|[,;:]|[^"(<,;:]+|./gs;

function inAddresses(text: string): string {
  const out: string[] = [];
  let phrase: string[] = [];
  /** What was gathered is a display name only when an address in brackets, or a group's colon, follows. */
  const flush = (isPhrase: boolean): void => {
    const joined = phrase.join('');
    out.push(isPhrase && !isAscii(joined) ? inPhrase(joined) : joined);
    phrase = [];
  };
  for (const token of text.match(TOKEN) ?? []) {
    if (token.startsWith('(')) {
      flush(false);
      out.push(isAscii(token) ? token : `(${encodeWords(unescaped(token.slice(1, -1)))})`);
    } else if (token.startsWith('<') || /^[,;:]$/.test(token)) {
      flush(token.startsWith('<') || token === ':');
      out.push(token);
    } else phrase.push(token);
  }
  flush(false);
  return out.join('');
}

/** A display name, quoted or not, in words; the blanks around it stay. */
function inPhrase(text: string): string {
  const [, before = '', name = '', behind = ''] = /^(\s*)(.*?)(\s*)$/s.exec(text) ?? [];
  const plain = name.replace(/"((?:\\.|[^"\\])*)"/gs, (_, inner: string) => unescaped(inner));
  return `${before}${encodeWords(plain)}${behind}`;
}

const unescaped = (text: string): string => text.replace(/\\(.)/gs, '$1');

function isAscii(text: string): boolean {
  return !/[\u0080-\u00ff]/.test(text);
}

/** Octets (latin1) in words of base64, one a line; no character of UTF-8 is cut. */
function encodeWords(text: string): string {
  const octets = Buffer.from(text, 'latin1');
  const charset = charsetOf(octets);
  const words: string[] = [];
  for (let from = 0; from < octets.length; ) {
    let to = Math.min(from + WORD_OCTETS, octets.length);
    while (charset === 'utf-8' && to < octets.length && ((octets[to] as number) & 0xc0) === 0x80) to -= 1;
    words.push(`=?${charset}?B?${octets.toString('base64', from, to)}?=`);
    from = to;
  }
  return words.join('\r\n ');
}
