/**
 * Replies of an SMTP or LMTP server, from bytes (RFC 5321 §4.2). Fed any chunks, it yields whole replies in order; the first malformed
 * line ends it, because after that nothing can be matched to its command any more.
 */
import type { Reply } from '../outcome.ts';

/** Longest reply line, octets with its line end. RFC 5321 §4.5.3.1.5 says 512; servers exceed it. */
export const MAX_REPLY_LINE_OCTETS = 4096;
/** Longest reply, all lines together, octets. */
export const MAX_REPLY_OCTETS = 65_536;
/** How much may come before the greeting on a pipe from a shell (a `.bashrc` that prints), octets. */
export const MAX_NOISE_OCTETS = 16_384;

/** What {@link ReplyParser.push} found. After `malformed` the parser yields nothing more. */
export type ReplyEvent =
  | { readonly type: 'reply'; readonly reply: Reply }
  /** `line` is what was read, latin1, not escaped. */
  | { readonly type: 'malformed'; readonly reason: string; readonly line: string };

/** Incremental reply parser. */
export interface ReplyParser {
  push(chunk: Uint8Array): ReplyEvent[];
  /** What was read before the greeting and is none, latin1, at most {@link MAX_NOISE_OCTETS}; empty once a reply has begun. */
  readonly noise: string;
  /** Something of a reply that has not ended was read. */
  readonly pending: boolean;
}

/** A whole line of a reply, for noise: a bare code is none. */
const REPLY_LIKE = /^[2-5][0-9]{2}[ -]/;
/** A line of a reply: three digits, then a space, a hyphen or nothing (RFC 5321 §4.2: the text may be absent). */
const LINE = /^([2-5][0-9]{2})(?:([ -])(.*))?$/s;
/**
 * A greeting behind octets without a line end: a title escape of a `.bashrc`, a prompt. It must end in CRLF, as servers write it and shells do not, so
 * that `you have 220 new mails` is none.
 */
const GLUED = /^.*(?<![0-9])((?:220|421|554)[ -].*)$/s;
/** RFC 2034 §4, RFC 3463 §2. */
const ENHANCED = /^([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)/;

/**
 * Makes a {@link ReplyParser}. Lines end in CRLF, or in LF alone as some clients' servers write it. With `skipNoise`, what
 * precedes the first line that looks like a reply is dropped (a login shell's output before the far command starts).
 */
export function createReplyParser(o: { skipNoise?: boolean } = {}): ReplyParser {
  return new ReplyReader(o.skipNoise === true);
}

class ReplyReader implements ReplyParser {
  /** What comes is skipped until a line looks like a reply. */
  #skipping: boolean;
  #begun = false;
  #dead = false;
  #octets = 0;
  #noiseOctets = 0;
  #skipped = '';
  #partial = '';
  #lines: { code: string; text: string }[] = [];

  constructor(skipNoise: boolean) {
    this.#skipping = skipNoise;
  }

  push(chunk: Uint8Array): ReplyEvent[] {
    const events: ReplyEvent[] = [];
    let at = 0;
    while (!this.#dead && at < chunk.length) {
      const lf = chunk.indexOf(10, at);
      const end = lf === -1 ? chunk.length : lf;
      const room = this.#skipping ? MAX_NOISE_OCTETS : MAX_REPLY_LINE_OCTETS;
      if (this.#partial.length + (end - at) > room) {
        const reason = this.#skipping ? 'no greeting, only other output' : 'reply line too long';
        events.push(this.#fail(reason, this.#partial));
        break;
      }
      this.#partial += latin1(chunk.subarray(at, end));
      at = end + 1;
      if (lf === -1) break;
      const line = this.#partial;
      this.#partial = '';
      const event = this.#takeLine(line);
      if (event !== undefined) events.push(event);
    }
    return events;
  }

  get noise(): string {
    if (this.#begun || this.#dead || REPLY_LIKE.test(this.#partial)) return '';
    return (this.#skipped + this.#partial).slice(0, MAX_NOISE_OCTETS);
  }

  get pending(): boolean {
    return this.#partial !== '' || this.#lines.length > 0;
  }

  #takeLine(raw: string): ReplyEvent | undefined {
    let line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
    if (this.#skipping && !REPLY_LIKE.test(line)) {
      const glued = raw.endsWith('\r') ? GLUED.exec(line)?.[1] : undefined;
      if (glued === undefined) return this.#takeNoise(raw.length + 1, line);
      line = glued;
    }
    this.#skipping = false;
    this.#begun = true;
    this.#octets += raw.length + 1;
    const [, code, separator, text = ''] = LINE.exec(line) ?? [];
    if (code === undefined) return this.#fail('not a reply line', line);
    if (raw.length + 1 > MAX_REPLY_LINE_OCTETS) return this.#fail('reply line too long', line);
    if (this.#octets > MAX_REPLY_OCTETS) return this.#fail('reply too long', line);
    if (this.#lines[0] !== undefined && this.#lines[0].code !== code) {
      return this.#fail('the code changes within a reply', line);
    }
    this.#lines.push({ code, text });
    if (separator === '-') return undefined;
    const reply = toReply(this.#lines);
    this.#lines = [];
    this.#octets = 0;
    return { type: 'reply', reply };
  }

  #takeNoise(length: number, line: string): ReplyEvent | undefined {
    this.#noiseOctets += length;
    if (this.#noiseOctets > MAX_NOISE_OCTETS) return this.#fail('no greeting, only other output', line);
    this.#skipped += `${line}\n`;
    return undefined;
  }

  #fail(reason: string, line: string): ReplyEvent {
    this.#dead = true;
    this.#partial = '';
    this.#lines = [];
    return { type: 'malformed', reason, line: line.slice(0, MAX_REPLY_LINE_OCTETS) };
  }
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

function toReply(lines: readonly { code: string; text: string }[]): Reply {
  const code = Number(lines[0]?.code);
  const enhanced = ENHANCED.exec(lines[0]?.text ?? '')?.[1];
  // RFC 2034 §4: the class of an enhanced code is that of the reply; anything else is text.
  if (enhanced === undefined || enhanced[0] !== String(code)[0]) return { code, lines: lines.map((line) => line.text) };
  const strip = (text: string): string => {
    const repeated = ENHANCED.exec(text);
    return repeated === null ? text : text.slice(repeated[0].length);
  };
  return { code, enhanced, lines: lines.map((line) => strip(line.text)) };
}

/** The reply's bytes, as a server writes them (CRLF line ends). For tests, rigs and cut-through. */
export function formatReply(reply: Reply): Buffer {
  const prefix = reply.enhanced === undefined ? '' : `${reply.enhanced} `;
  const last = reply.lines.length - 1;
  const lines = reply.lines.map((line, at) => `${reply.code}${at === last ? ' ' : '-'}${prefix}${line}\r\n`);
  return Buffer.from(lines.join(''), 'latin1');
}
