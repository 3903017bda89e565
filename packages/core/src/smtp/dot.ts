/** The transparency of DATA (RFC 5321 §4.5.2): a dot at the start of a line is doubled, a lone dot ends the message. */

/** Encodes a message for DATA, chunk by chunk. */
export interface DotEncoder {
  /** The chunk with its leading dots doubled. May return the chunk itself. */
  push(chunk: Uint8Array): Uint8Array;
  /** What ends the message: `.` CRLF, with a CRLF before it when the last line had none. */
  end(): Uint8Array;
}

const CR = 13;
const LF = 10;
const DOT = 46;
const DOT_BYTES: Uint8Array = Buffer.from('.');
const END = Buffer.from('.\r\n');
const CRLF_END = Buffer.from('\r\n.\r\n');

/** Makes a {@link DotEncoder}. Its input has CRLF line ends only (see {@link createMessageChecker}). */
export function createDotEncoder(): DotEncoder {
  // 0 at a line's start, 1 inside a line, 2 after a CR.
  let state: 0 | 1 | 2 = 0;
  return {
    push(chunk) {
      const parts: Uint8Array[] = [];
      let from = 0;
      const view = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      if (view.length === 0) return chunk;
      const double = (at: number): void => {
        parts.push(view.subarray(from, at), DOT_BYTES);
        from = at;
      };
      if (state === 0 && view[0] === DOT) double(0);
      if (state === 2 && view[0] === LF && view[1] === DOT) double(1);
      for (let at = view.indexOf('\r\n.'); at !== -1; at = view.indexOf('\r\n.', at + 2)) double(at + 2);
      state = lineState(view, state);
      if (parts.length === 0) return chunk;
      parts.push(view.subarray(from));
      return Buffer.concat(parts);
    },
    end: () => (state === 0 ? END : CRLF_END),
  };
}

function lineState(view: Buffer, before: 0 | 1 | 2): 0 | 1 | 2 {
  const last = view[view.length - 1];
  if (last === CR) return 2;
  const previousIsCr = view.length > 1 ? view[view.length - 2] === CR : before === 2;
  return last === LF && previousIsCr ? 0 : 1;
}

/** Decodes DATA, chunk by chunk: the reverse of {@link DotEncoder}. */
export interface DotDecoder {
  /**
   * `body`: message bytes decoded so far. `rest` is set once the end was seen: what follows it (commands); nothing more may be pushed
   * then. The CRLF before the final dot belongs to the message.
   */
  push(chunk: Uint8Array): { body: Uint8Array; rest?: Uint8Array };
}

/** Makes a {@link DotDecoder}. Only CRLF `.` CRLF ends a message; bare CR and LF pass as they are. */
export function createDotDecoder(): DotDecoder {
  // What was seen of `CRLF . CR LF` since the last line's end: 'start', 'dot', 'dotcr', or inside a line ('in', 'cr').
  let state: 'start' | 'dot' | 'dotcr' | 'in' | 'cr' = 'start';
  return {
    push(chunk) {
      const body = Buffer.allocUnsafe(chunk.length + 2);
      let length = 0;
      const put = (octet: number): void => {
        body[length++] = octet;
        state = octet === CR ? 'cr' : octet === LF && state === 'cr' ? 'start' : 'in';
      };
      for (let at = 0; at < chunk.length; at++) {
        const octet = chunk[at] as number;
        if (state === 'start' && octet === DOT) state = 'dot';
        else if (state === 'dot' && octet === CR) state = 'dotcr';
        else if (state === 'dotcr' && octet === LF) {
          return { body: body.subarray(0, length), rest: chunk.subarray(at + 1) };
        } else if (state === 'dotcr') {
          put(CR);
          put(octet);
        } else put(octet);
      }
      return { body: body.subarray(0, length) };
    },
  };
}
