/**
 * Local text made into text as SMTP sends it: LF and CRLF become CRLF, every other octet stays (a bare CR too, for the message check
 * to find). Holds at most one octet back.
 */
export interface LineEnds {
  push(chunk: Uint8Array): Buffer;
  /** What was held back. */
  finish(): Buffer;
}

const CR = 0x0d;
const LF = 0x0a;

/** Makes a {@link LineEnds}. */
export function createLineEnds(): LineEnds {
  let heldCr = false;
  return {
    push(chunk) {
      const out = Buffer.allocUnsafe(chunk.length * 2 + 1);
      let length = 0;
      for (let at = 0; at < chunk.length; at++) {
        const octet = chunk[at] as number;
        if (octet === LF || heldCr) out[length++] = CR;
        heldCr = octet === CR;
        if (!heldCr) out[length++] = octet;
      }
      return out.subarray(0, length);
    },
    finish() {
      const rest = heldCr ? Buffer.from([CR]) : Buffer.alloc(0);
      heldCr = false;
      return rest;
    },
  };
}
