/**
 * Which bytes may travel as a message: CRLF line ends only, no NUL, no line over 998 octets (RFC 5322 §2.1.1, §2.3; RFC 5321 §4.5.3.1.6).
 * What passes here cannot be cut short or smuggle a second message at a server that takes bare LF as a line end.
 */
import { isAscii } from 'node:buffer';

/** Longest line of a message, octets without its CRLF (RFC 5322 §2.1.1). */
export const MAX_TEXT_LINE_OCTETS = 998;

/** What is wrong with a message; `line` counts from 1. */
export interface MessageFault {
  readonly type: 'bare-cr' | 'bare-lf' | 'nul' | 'long-line';
  readonly line: number;
}

/** What a fit message is. */
export interface MessageFacts {
  /** Octets. */
  readonly size: number;
  /** Some octet is above 127: the envelope needs `8BITMIME`. */
  readonly eightBit: boolean;
  /** The header (up to the first empty line) has an octet above 127: the envelope needs SMTPUTF8 (RFC 6532). */
  readonly eightBitHeader: boolean;
  /** Some line is over 998 octets; only where that is allowed. */
  readonly longLines: boolean;
  /** The last line ends in CRLF (true for an empty message). */
  readonly endsInCrlf: boolean;
}

/** Checks a message chunk by chunk. */
export interface MessageChecker {
  /** The first fault, once there is one (and from then on). */
  push(chunk: Uint8Array): MessageFault | undefined;
  /** After the last chunk. */
  end():
    | { readonly type: 'fit'; readonly facts: MessageFacts }
    | { readonly type: 'unfit'; readonly fault: MessageFault };
}

type Finder = (from: number) => number;

/** Where `octet` is next, from a place on; the length when nowhere. Looks again only behind what it found last. */
function finder(chunk: Uint8Array, octet: number): Finder {
  let found = -1;
  return (from) => {
    if (found < from) {
      const at = chunk.indexOf(octet, from);
      found = at < 0 ? chunk.length : at;
    }
    return found;
  };
}

/** Makes a {@link MessageChecker}; `longLines`: a line over 998 octets is no fault, and told of at the end. */
export function createMessageChecker(o: { readonly longLines?: boolean } = {}): MessageChecker {
  let fault: MessageFault | undefined;
  let size = 0;
  let line = 1;
  let lineOctets = 0;
  let afterCr = false;
  let eightBit = false;
  let inHeader = true;
  let eightBitHeader = false;
  let longLines = false;

  const scan = (chunk: Uint8Array): MessageFault['type'] | undefined => {
    const ascii = isAscii(chunk);
    const [nextCr, nextLf, nextNul] = [13, 10, 0].map((octet) => finder(chunk, octet)) as [Finder, Finder, Finder];
    for (let at = 0; at < chunk.length; ) {
      if (afterCr) {
        if (chunk[at] !== 10) return 'bare-cr';
        afterCr = false;
        if (lineOctets === 0) inHeader = false;
        lineOctets = 0;
        line++;
        at++;
        continue;
      }
      const end = Math.min(nextCr(at), nextLf(at), nextNul(at));
      lineOctets += end - at;
      if (lineOctets > MAX_TEXT_LINE_OCTETS) {
        if (o.longLines !== true) return 'long-line';
        longLines = true;
      }
      if (!ascii && !isAscii(chunk.subarray(at, end))) {
        eightBit = true;
        eightBitHeader ||= inHeader;
      }
      if (chunk[end] === 10) return 'bare-lf';
      if (chunk[end] === 0) return 'nul';
      afterCr = end < chunk.length;
      at = end + 1;
    }
    return undefined;
  };

  return {
    push(chunk) {
      if (fault !== undefined) return fault;
      size += chunk.length;
      const type = scan(chunk);
      if (type !== undefined) fault = { type, line };
      return fault;
    },
    end() {
      if (fault === undefined && afterCr) fault = { type: 'bare-cr', line };
      if (fault !== undefined) return { type: 'unfit', fault };
      return { type: 'fit', facts: { size, eightBit, eightBitHeader, longLines, endsInCrlf: lineOctets === 0 } };
    },
  };
}

/** The fault as a sentence, for a 554 5.6.0 reply. */
export function describeFault(fault: MessageFault): string {
  const what = {
    'bare-cr': 'has a CR without LF',
    'bare-lf': 'has an LF without CR',
    nul: 'has a NUL',
    'long-line': `is longer than ${MAX_TEXT_LINE_OCTETS} octets`,
  };
  const remedy = {
    'bare-cr': 'send CRLF line ends, or encode the part as quoted-printable or base64',
    'bare-lf': 'send CRLF line ends, or encode the part as quoted-printable or base64',
    nul: 'encode the part as base64',
    'long-line': 'encode the part as quoted-printable or base64',
  };
  return `Message refused: line ${fault.line} ${what[fault.type]}; ${remedy[fault.type]}`;
}
