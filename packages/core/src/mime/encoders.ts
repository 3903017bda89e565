/** Quoted-printable and base64 (RFC 2045 §6.7, §6.8) of a body that comes in pieces of any size. */
import { CRLF } from './walk.ts';

/** Longest encoded line, characters (RFC 2045 §6.7 rule 5, §6.8). */
const LINE = 76;

/** Encodes one body. What it gives is the caller's to keep. */
export interface Encoder {
  push(bytes: Buffer): Buffer;
  /** `framed`: a boundary follows, to which the last line end belongs (RFC 2046 §5.1.1). */
  finish(framed: boolean): Buffer;
}

/** The encoder to an encoding. A body that has it already is laid anew in lines that fit. */
export function encoderOf(to: 'quoted-printable' | 'base64', from: string): Encoder {
  if (to === 'base64') return from === 'base64' ? rewrapBase64() : base64();
  return new QuotedPrintable(from === 'quoted-printable');
}

const HEX: Uint8Array = Buffer.from('0123456789ABCDEF');
const EQUALS = 0x3d;
const CR = 0x0d;
const LF = 0x0a;
const SPACE = 0x20;
const TAB = 0x09;
const NOTHING: Buffer = Buffer.alloc(0);

/** 1 for what stands for itself wherever it is (RFC 2045 §6.7 rule 2): printable, no `=`, no blank. */
const PLAIN: Uint8Array = Uint8Array.from({ length: 256 }, (_, octet) =>
  octet > SPACE && octet < 0x7f && octet !== EQUALS ? 1 : 0,
);

/** Octets encoded at a time, so that the room for the result is small and used again. */
const SLICE = 16 * 1024;

/** With `again` the body is quoted-printable already: its escapes and soft breaks stay. */
class QuotedPrintable implements Encoder {
  readonly #again: boolean;
  // Three for each octet, and a soft break for each 73 of those at least.
  readonly #out: Buffer = Buffer.allocUnsafe(Math.ceil((SLICE + 8) * 3 * 1.05) + LINE);
  #to = 0;
  #column = 0;
  /** What cannot be judged before more comes: a blank, a CR, an escape that is not whole. */
  #held: Buffer = NOTHING;

  constructor(again: boolean) {
    this.#again = again;
  }

  push(bytes: Buffer): Buffer {
    const parts: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += SLICE) {
      const slice = bytes.subarray(at, at + SLICE);
      const whole = this.#held.length === 0 ? slice : Buffer.concat([this.#held, slice]);
      const end = this.#judged(whole);
      this.#held = end === whole.length ? NOTHING : Buffer.from(whole.subarray(end));
      parts.push(this.#encode(whole, end));
    }
    return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
  }

  finish(): Buffer {
    const rest = this.#held;
    this.#held = NOTHING;
    return this.#encode(rest, rest.length);
  }

  /** Where what must wait for more begins. */
  #judged(bytes: Buffer): number {
    let end = bytes.length;
    if (bytes[end - 1] === CR) end -= 1;
    if (this.#again) {
      const start = bytes.lastIndexOf(EQUALS);
      return start >= 0 && start > bytes.length - 3 ? Math.min(start, end) : end;
    }
    if (bytes[end - 1] === SPACE || bytes[end - 1] === TAB) end -= 1;
    return end;
  }

  #encode(bytes: Buffer, end: number): Buffer {
    this.#to = 0;
    for (let at = 0; at < end; ) {
      at = PLAIN[bytes[at] as number] === 1 ? this.#plain(bytes, at, end) : this.#special(bytes, at);
    }
    return Buffer.from(this.#out.subarray(0, this.#to));
  }

  /** As many plain octets as the line has room for; gives where to go on. */
  #plain(bytes: Buffer, from: number, end: number): number {
    this.#room(1);
    const out = this.#out;
    const most = Math.min(end, from + LINE - this.#column);
    let to = this.#to;
    let at = from;
    do out[to++] = bytes[at++] as number;
    while (at < most && PLAIN[bytes[at] as number] === 1);
    this.#to = to;
    this.#column += at - from - 1;
    return at;
  }

  /** An octet that is not plain, at `at`, and what of those behind it belongs to it; gives where to go on. */
  #special(bytes: Buffer, at: number): number {
    const octet = bytes[at] as number;
    if (octet === CR && bytes[at + 1] === LF) {
      this.#put(CR, LF);
      this.#column = 0;
      return at + 2;
    }
    if (octet === SPACE || octet === TAB) {
      const end = bytes.length;
      const last = at + 1 >= end || (bytes[at + 1] === CR && (at + 2 >= end || bytes[at + 2] === LF));
      if (last && !this.#again) this.#escape(octet);
      else {
        this.#room(1);
        this.#put(octet);
      }
      return at + 1;
    }
    if (this.#again && octet === EQUALS) return this.#kept(bytes, at);
    this.#escape(octet);
    return at + 1;
  }

  /** An escape or soft break of the body itself; a stray `=`, which readers show as it is, is escaped. */
  #kept(bytes: Buffer, at: number): number {
    const soft = bytes[at + 1] === CR && bytes[at + 2] === LF;
    if (!soft && !(isHex(bytes[at + 1]) && isHex(bytes[at + 2]))) {
      this.#escape(EQUALS);
      return at + 1;
    }
    this.#room(soft ? 1 : 3);
    this.#put(EQUALS, bytes[at + 1] as number, bytes[at + 2] as number);
    if (soft) this.#column = 0;
    return at + 3;
  }

  #escape(octet: number): void {
    this.#room(3);
    this.#put(EQUALS, HEX[octet >> 4] as number, HEX[octet & 15] as number);
  }

  /** One octet, or three, or two: without a list, which would be made for each line. */
  #put(first: number, second = -1, third = -1): void {
    this.#out[this.#to++] = first;
    if (second >= 0) this.#out[this.#to++] = second;
    if (third >= 0) this.#out[this.#to++] = third;
  }

  /** Breaks the line softly where `length` characters have no room before the `=`. */
  #room(length: number): void {
    if (this.#column + length > LINE - 1) {
      this.#put(EQUALS, CR, LF);
      this.#column = 0;
    }
    this.#column += length;
  }
}

function isHex(octet: number | undefined): boolean {
  return octet !== undefined && /[0-9A-Fa-f]/.test(String.fromCharCode(octet));
}

const GROUP = (LINE / 4) * 3;

function base64(): Encoder {
  let pending = NOTHING;
  /** The last line end, until it is known whose it is. */
  let end = NOTHING;
  const take = (bytes: Buffer): Buffer => {
    const whole = pending.length === 0 ? bytes : Buffer.concat([pending, bytes]);
    const cut = whole.length - (whole.length % GROUP);
    pending = Buffer.from(whole.subarray(cut));
    return inLines(Buffer.from(whole.toString('base64', 0, cut), 'latin1'));
  };
  return {
    push(bytes) {
      const whole = end.length === 0 ? bytes : Buffer.concat([end, bytes]);
      const cut = whole.at(-1) === CR ? 1 : whole.at(-1) === LF && whole.at(-2) === CR ? 2 : 0;
      end = Buffer.from(whole.subarray(whole.length - cut));
      return take(whole.subarray(0, whole.length - cut));
    },
    finish(framed) {
      const last = framed && end.equals(CRLF) ? NOTHING : end;
      const rest = Buffer.concat([pending, last]);
      pending = NOTHING;
      end = NOTHING;
      return inLines(Buffer.from(rest.toString('base64'), 'latin1'));
    },
  };
}

/** Base64 in lines, each with its end. */
function inLines(text: Buffer): Buffer {
  const out = Buffer.allocUnsafe(text.length + Math.ceil(text.length / LINE) * 2);
  let to = 0;
  for (let at = 0; at < text.length; at += LINE) {
    to += text.copy(out, to, at, at + LINE);
    out[to++] = CR;
    out[to++] = LF;
  }
  return out;
}

/** Base64 in lines that are too long: the characters stay, the lines are laid anew (RFC 2045 §6.8: whatever else stands there is ignored). */
function rewrapBase64(): Encoder {
  let pending = NOTHING;
  const lines = (bytes: Buffer, all: boolean): Buffer => {
    const kept = Buffer.allocUnsafe(pending.length + bytes.length);
    let length = pending.copy(kept);
    for (const octet of bytes) if (BASE64[octet] === 1) kept[length++] = octet;
    const cut = all ? length : length - (length % LINE);
    pending = Buffer.from(kept.subarray(cut, length));
    return inLines(kept.subarray(0, cut));
  };
  return { push: (bytes) => lines(bytes, false), finish: () => lines(NOTHING, true) };
}

const BASE64: Uint8Array = Uint8Array.from({ length: 256 }, (_, octet) =>
  /[A-Za-z0-9+/=]/.test(String.fromCharCode(octet)) ? 1 : 0,
);
