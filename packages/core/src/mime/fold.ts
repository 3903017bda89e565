/**
 * Lines no encoding reaches are broken where they are too long: text between parts (RFC 2046 §5.1.1), headers, reports. Postfix breaks all long lines so
 * (smtp_line_length_limit): a line end and a blank, which in a header is a fold.
 */
import { MAX_TEXT_LINE_OCTETS } from '../smtp/check.ts';
import { CRLF } from './walk.ts';

const SPACE = 0x20;
const TAB = 0x09;
const CR = 0x0d;
const LF = 0x0a;
const QUESTION = 0x3f;
const BREAK: Buffer = Buffer.from('\r\n ');

/** Folds text that comes in pieces of any size. */
export interface Folder {
  push(bytes: Buffer): Buffer;
  finish(): Buffer;
}

/** Makes a {@link Folder}. NUL, bare CR and bare LF become blanks, with `sevenBit` octets above 127 question marks. Lines that fit stay as they are. */
export function createFolder(o: { sevenBit: boolean }): Folder {
  let line: Buffer = Buffer.alloc(0);
  const clean = (bytes: Buffer): Buffer => {
    const out = Buffer.from(bytes);
    for (let at = 0; at < out.length; at += 1) {
      const octet = out[at] as number;
      if (octet === 0 || octet === CR || octet === LF) out[at] = SPACE;
      else if (o.sevenBit && octet > 0x7f) out[at] = QUESTION;
    }
    return out;
  };
  /** Room in the line at hand: behind a break a blank stands already. */
  let room = MAX_TEXT_LINE_OCTETS;
  const broken = (text: Buffer): { out: Buffer[]; rest: Buffer } => {
    const out: Buffer[] = [];
    let from = 0;
    while (text.length - from > room) {
      const at = breakPoint(text, from, room);
      out.push(text.subarray(from, at), BREAK);
      // The blank at a break is that of the break.
      from = text[at] === SPACE || text[at] === TAB ? at + 1 : at;
      room = MAX_TEXT_LINE_OCTETS - 1;
    }
    return { out, rest: text.subarray(from) };
  };
  return {
    push(bytes) {
      const out: Buffer[] = [];
      let rest = line.length === 0 ? bytes : Buffer.concat([line, bytes]);
      for (let end = rest.indexOf('\r\n'); end >= 0; end = rest.indexOf('\r\n')) {
        const cut = broken(clean(rest.subarray(0, end)));
        out.push(...cut.out, cut.rest, CRLF);
        room = MAX_TEXT_LINE_OCTETS;
        rest = rest.subarray(end + 2);
      }
      const open = rest.at(-1) === CR ? 1 : 0;
      if (rest.length > 2 * MAX_TEXT_LINE_OCTETS) {
        const cut = broken(clean(rest.subarray(0, rest.length - open)));
        out.push(...cut.out);
        rest = Buffer.concat([cut.rest, rest.subarray(rest.length - open)]);
      }
      line = Buffer.from(rest);
      return Buffer.concat(out);
    },
    finish() {
      const rest = line;
      line = Buffer.alloc(0);
      const cut = broken(clean(rest));
      room = MAX_TEXT_LINE_OCTETS;
      return Buffer.concat([...cut.out, cut.rest]);
    },
  };
}

/** Where a line is broken before `room` octets have passed: at white space that is not all there is before it (RFC 5322 §2.2.3), else right there. */
function breakPoint(text: Buffer, from: number, room: number): number {
  for (let at = from + room; at > from + 1; at -= 1) {
    if ((text[at] === SPACE || text[at] === TAB) && text[at - 1] !== SPACE && text[at - 1] !== TAB) return at;
  }
  return from + room;
}
