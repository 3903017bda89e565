/**
 * Which bytes may travel as a message: CRLF line ends only, no NUL, no line over 998 octets (RFC 5322 §2.1.1, §2.3; RFC 5321 §4.5.3.1.6).
 * What passes here cannot be cut short or smuggle a second message at a server that takes bare LF as a line end.
 */

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

/** Makes a {@link MessageChecker}. */
export function createMessageChecker(): MessageChecker {
  let fault: MessageFault | undefined;
  let size = 0;
  let line = 1;
  let lineOctets = 0;
  let afterCr = false;
  let eightBit = false;
  let inHeader = true;
  let eightBitHeader = false;

  const scan = (chunk: Uint8Array): MessageFault['type'] | undefined => {
    for (let at = 0; at < chunk.length; at++) {
      const octet = chunk[at] as number;
      if (octet === 10) {
        if (!afterCr) return 'bare-lf';
        afterCr = false;
        if (lineOctets === 0) inHeader = false;
        lineOctets = 0;
        line++;
        continue;
      }
      if (afterCr) return 'bare-cr';
      if (octet === 13) {
        afterCr = true;
        continue;
      }
      if (octet === 0) return 'nul';
      if (octet > 127) {
        eightBit = true;
        if (inHeader) eightBitHeader = true;
      }
      if (++lineOctets > MAX_TEXT_LINE_OCTETS) return 'long-line';
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
      return { type: 'fit', facts: { size, eightBit, eightBitHeader, endsInCrlf: lineOctets === 0 } };
    },
  };
}

/** The fault as a sentence, for a 554 5.6.0 reply. */
export function describeFault(fault: MessageFault): string {
  const what = {
    'bare-cr': 'a CR without LF',
    'bare-lf': 'an LF without CR',
    nul: 'a NUL',
    'long-line': `a line longer than ${MAX_TEXT_LINE_OCTETS} octets`,
  };
  const remedy = {
    'bare-cr': 'send CRLF line ends, or encode the part as quoted-printable or base64',
    'bare-lf': 'send CRLF line ends, or encode the part as quoted-printable or base64',
    nul: 'encode the part as base64',
    'long-line': 'encode the part as quoted-printable or base64',
  };
  return `Message refused: line ${fault.line} has ${what[fault.type]}; ${remedy[fault.type]}`;
}
