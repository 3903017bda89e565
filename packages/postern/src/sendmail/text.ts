/** Lines as programs write them, with CRLF at their ends. */
import { createLineEnds, createMessageChecker, MAX_TEXT_LINE_OCTETS, type MessageFault } from '@postern/core';
import { PosternError } from '../base/errors.ts';

const CR = 0x0d;
const LF = 0x0a;
const DOT = 0x2e;

/**
 * Text as a local program writes it, made into text as SMTP sends it: LF and CRLF become CRLF, all other octets stay. A bare CR, a NUL
 * and a line over 998 octets are refused ({@link PosternError} `data`, with the line's number), since a server would
 * split or bounce them (RFC 5321 §2.3.8, §4.5.3.1.6).
 */
export interface TextReader {
  /** CRLF text for these octets. */
  push(chunk: Uint8Array): Buffer;
  /** What was held back; a last line without line end gets none. */
  finish(): Buffer;
  /** A lone dot ended the message: what follows is not part of it. */
  readonly ended: boolean;
}

/** Makes a {@link TextReader}. With `dotEnds`, a line with a lone dot ends the message. */
export function textReader(o: { dotEnds: boolean }): TextReader {
  const ends = createLineEnds();
  const checker = createMessageChecker();
  const dot = loneDot();
  const take = (bytes: Buffer): Buffer => {
    const text = o.dotEnds ? dot.push(bytes) : bytes;
    const found = checker.push(text);
    if (found !== undefined) throw fault(found);
    return text;
  };
  return {
    get ended() {
      return dot.ended;
    },
    push: (chunk) => take(ends.push(chunk)),
    finish() {
      const text = Buffer.concat([take(ends.finish()), dot.finish()]);
      const end = checker.end();
      if (end.type === 'unfit') throw fault(end.fault);
      return text;
    },
  };
}

/** Cuts CRLF text before a line that is a lone dot, at its end too. Holds such a line's start back until it is told apart. */
function loneDot(): Pick<TextReader, 'push' | 'finish' | 'ended'> {
  let held: number[] = [];
  let atStart = true;
  let ended = false;
  const keep = (octet: number): boolean =>
    held.length === 0 ? atStart && octet === DOT : held.length === 1 && octet === CR;
  return {
    get ended() {
      return ended;
    },
    push(bytes) {
      const out: number[] = [];
      for (const octet of bytes) {
        if (ended) break;
        if (keep(octet)) held.push(octet);
        else if (held.length === 2 && octet === LF) ended = true;
        else {
          out.push(...held, octet);
          held = [];
        }
        atStart = octet === LF;
      }
      return Buffer.from(out);
    },
    finish() {
      ended ||= held.length === 1;
      return Buffer.from(ended ? [] : held);
    },
  };
}

const FAULTS: Readonly<Record<MessageFault['type'], string>> = {
  'bare-cr': 'a carriage return that is not part of a line end',
  'bare-lf': 'a line feed that is not part of a line end',
  nul: 'a NUL octet',
  'long-line': `more than ${MAX_TEXT_LINE_OCTETS} octets, which is the most mail allows`,
};

function fault({ type, line }: MessageFault): PosternError {
  return new PosternError('data', `line ${line} of the message holds ${FAULTS[type]}; nothing was sent`, {
    fix: 'encode that part as quoted-printable or base64 (RFC 2045 §6)',
  });
}
