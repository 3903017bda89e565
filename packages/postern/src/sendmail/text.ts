/** Lines as programs write them, with CRLF at their ends. */
import { createLineEnds } from '@postern/core';

const CR = 0x0d;
const LF = 0x0a;
const DOT = 0x2e;

/**
 * Text as a local program writes it, with the line ends of SMTP: LF and CRLF become CRLF, all other octets stay. What no line of SMTP can carry is for
 * `fitted` to encode.
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
  const dot = loneDot();
  const take = (bytes: Buffer): Buffer => (o.dotEnds ? dot.push(bytes) : bytes);
  return {
    get ended() {
      return dot.ended;
    },
    push: (chunk) => take(ends.push(chunk)),
    finish() {
      return Buffer.concat([take(ends.finish()), dot.finish()]);
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
