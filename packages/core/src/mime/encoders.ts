/** Quoted-printable and base64 (RFC 2045 §6.7, §6.8) of a body that comes in lines, or in pieces of long ones. */
import { CRLF } from './walk.ts';

/** Longest encoded line, characters (RFC 2045 §6.7 rule 5, §6.8). */
const LINE = 76;

/** Encodes one body. */
export interface Encoder {
  /** `ends`: the bytes end in a line end. */
  push(bytes: Buffer, ends: boolean): Buffer;
  /** `framed`: a boundary follows, to which the last line end belongs (RFC 2046 §5.1.1). */
  finish(framed: boolean): Buffer;
}

/** The encoder to an encoding. A body that has it already is laid anew in lines that fit. */
export function encoderOf(to: 'quoted-printable' | 'base64', from: string): Encoder {
  if (to === 'base64') return from === 'base64' ? rewrapBase64() : base64();
  return quotedPrintable(from === 'quoted-printable');
}

const HEX: Uint8Array = Buffer.from('0123456789ABCDEF');
const EQUALS = 0x3d;
const EMPTY: Buffer = Buffer.alloc(0);

/** With `again` the body is quoted-printable already: its escapes and soft breaks stay. */
function quotedPrintable(again: boolean): Encoder {
  let column = 0;
  /** The start of an escape that is not whole yet, or a blank that may turn out to end its line. */
  let held: Buffer = EMPTY;
  const encode = (bytes: Buffer, lastOfLine: boolean, end: Buffer = EMPTY): Buffer => {
    // Three for each octet, and a soft break for each line of them.
    const breaks = Math.ceil((bytes.length * 3) / (LINE - 3)) + 1;
    const out = Buffer.allocUnsafe(bytes.length * 3 + breaks * 3 + end.length);
    const blank = lastOfLine ? bytes.length - 1 : -1;
    let to = 0;
    for (let at = 0; at < bytes.length; at += 1) {
      const octet = bytes[at] as number;
      const isBare = octet === EQUALS ? again : PLAIN[octet] === 1 && (at !== blank || octet > 0x20);
      const width = isBare && octet !== EQUALS ? 1 : 3;
      if (column + width > LINE - 1) {
        out[to++] = EQUALS;
        out[to++] = 0x0d;
        out[to++] = 0x0a;
        column = 0;
      }
      column += width;
      if (!isBare) {
        out[to++] = EQUALS;
        out[to++] = HEX[octet >> 4] as number;
        out[to++] = HEX[octet & 15] as number;
        continue;
      }
      out[to++] = octet;
      if (width === 3)
        for (let more = 0; more < 2 && at + 1 < bytes.length; more += 1) out[to++] = bytes[++at] as number;
    }
    for (const octet of end) out[to++] = octet;
    return out.subarray(0, to);
  };
  return {
    push(bytes, ends) {
      if (ends && column === 0 && held.length === 0 && standsForItself(bytes)) return bytes;
      const text = ends && bytes.at(-2) === 0x0d ? bytes.subarray(0, -2) : bytes;
      let whole = held.length === 0 ? text : Buffer.concat([held, text]);
      const cut = ends ? whole.length : heldFrom(whole, again);
      held = cut === whole.length ? EMPTY : Buffer.from(whole.subarray(cut));
      whole = whole.subarray(0, whole.length - held.length);
      if (!ends) return encode(whole, false);
      const out = encode(whole, !again, text.length === bytes.length ? EMPTY : CRLF);
      column = 0;
      return out;
    },
    finish() {
      const rest = held;
      held = EMPTY;
      return encode(rest, !again);
    },
  };
}

/** Where what must wait for more begins. */
function heldFrom(bytes: Buffer, again: boolean): number {
  const last = bytes.at(-1);
  if (!again) return last === 0x20 || last === 0x09 ? bytes.length - 1 : bytes.length;
  const start = bytes.lastIndexOf(EQUALS);
  return start >= 0 && start > bytes.length - 3 ? start : bytes.length;
}

/** 1 for what stands for itself (RFC 2045 §6.7 rules 2 and 3). */
const PLAIN: Uint8Array = Uint8Array.from({ length: 256 }, (_, octet) =>
  (octet >= 0x20 && octet < 0x7f && octet !== EQUALS) || octet === 0x09 ? 1 : 0,
);

/** A whole line, with its CRLF, in which nothing is encoded. */
function standsForItself(line: Buffer): boolean {
  const length = line.length - CRLF.length;
  if (length > LINE - 1 || length < 0 || line[length] !== 0x0d) return false;
  for (let at = 0; at < length; at += 1) if (PLAIN[line[at] as number] !== 1) return false;
  return length === 0 || (line[length - 1] !== 0x20 && line[length - 1] !== 0x09);
}

const GROUP = (LINE / 4) * 3;

function base64(): Encoder {
  let pending: Buffer = Buffer.alloc(0);
  /** The last line end, until it is known whose it is. */
  let end: Buffer = Buffer.alloc(0);
  const lines = (bytes: Buffer, all: boolean): Buffer => {
    pending = Buffer.concat([pending, bytes]);
    const whole = all ? pending.length : pending.length - (pending.length % GROUP);
    const text = pending
      .subarray(0, whole)
      .toString('base64')
      .replace(/.{1,76}/g, '$&\r\n');
    pending = pending.subarray(whole);
    return Buffer.from(text, 'latin1');
  };
  return {
    push(bytes, ends) {
      const cut = ends && bytes.at(-2) === 0x0d ? 2 : 0;
      const out = lines(Buffer.concat([end, bytes.subarray(0, bytes.length - cut)]), false);
      end = cut === 0 ? Buffer.alloc(0) : CRLF;
      return out;
    },
    finish: (framed) => lines(framed ? Buffer.alloc(0) : end, true),
  };
}

/** Base64 in lines that are too long: the characters stay, the lines are laid anew (RFC 2045 §6.8: whatever else stands there is ignored). */
function rewrapBase64(): Encoder {
  let pending = '';
  const lines = (all: boolean): Buffer => {
    const whole = all ? pending.length : pending.length - (pending.length % LINE);
    const text = pending.slice(0, whole).replace(/.{1,76}/g, '$&\r\n');
    pending = pending.slice(whole);
    return Buffer.from(text, 'latin1');
  };
  return {
    push(bytes) {
      pending += bytes.toString('latin1').replace(/[^A-Za-z0-9+/=]/g, '');
      return lines(false);
    },
    finish: () => lines(true),
  };
}
