import { PosternError } from '../errors.ts';

/** Octets a line may have, without its CRLF (RFC 5322 §2.1.1). */
export const LINE_OCTETS = 998;

const CR = 0x0d;
const LF = 0x0a;
const CRLF: Buffer = Buffer.from('\r\n');

/**
 * Text as a local program writes it, made into text as SMTP sends it: LF and CRLF become CRLF, all other octets stay. A bare CR, a NUL
 * and a line over {@link LINE_OCTETS} are refused ({@link PosternError} `data`, with the line's number), since a server would
 * split or bounce them (RFC 5321 §2.3.8, §4.5.3.1.6). Holds at most one line.
 */
export interface TextReader {
  /** CRLF text for these octets. */
  push(chunk: Uint8Array): Buffer;
  /** The last line, when it had no line end; it gets none. */
  finish(): Buffer;
  /** A lone dot ended the message: what follows is not part of it. */
  readonly ended: boolean;
}

/** Makes a {@link TextReader}. With `dotEnds`, a line with a lone dot ends the message. */
export function textReader(o: { dotEnds: boolean }): TextReader {
  let partial: Buffer = Buffer.alloc(0);
  let line = 1;
  let ended = false;
  const check = (text: Buffer): void => {
    if (text.includes(0)) throw fault(line, 'a NUL octet');
    if (text.includes(CR)) throw fault(line, 'a carriage return that is not part of a line end');
    if (text.length > LINE_OCTETS)
      throw fault(line, `${text.length} octets, and ${LINE_OCTETS} is the most mail allows`);
  };
  return {
    get ended() {
      return ended;
    },
    push(chunk) {
      if (ended) return Buffer.alloc(0);
      const bytes =
        partial.length > 0
          ? Buffer.concat([partial, chunk])
          : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      const out: Buffer[] = [];
      let start = 0;
      for (let end = bytes.indexOf(LF); end >= 0; end = bytes.indexOf(LF, start)) {
        const text = bytes.subarray(start, end > start && bytes[end - 1] === CR ? end - 1 : end);
        start = end + 1;
        if (o.dotEnds && text.length === 1 && text[0] === 0x2e) {
          ended = true;
          partial = Buffer.alloc(0);
          return Buffer.concat(out);
        }
        check(text);
        out.push(text, CRLF);
        line += 1;
      }
      partial = Buffer.from(bytes.subarray(start));
      // The one CR more may be half of the line end.
      if (partial.length > LINE_OCTETS + 1) check(partial);
      return Buffer.concat(out);
    },
    finish() {
      const last = partial;
      partial = Buffer.alloc(0);
      if (ended || (o.dotEnds && last.length === 1 && last[0] === 0x2e)) return Buffer.alloc(0);
      check(last);
      return last;
    },
  };
}

function fault(line: number, what: string): PosternError {
  return new PosternError('data', `line ${line} of the message holds ${what}; nothing was sent`, {
    fix: 'encode that part as quoted-printable or base64 (RFC 2045 §6)',
  });
}
