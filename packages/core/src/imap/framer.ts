/**
 * Framing of what a client sends, before any grammar: lines and literals are split first, so that the octets of a literal are
 * never read as a command (RFC 3501 §4.3, RFC 7888). Everything has a cap; what passes one is hopeless and cannot be framed again.
 */
import { MAX_CLIENT_LINE, MAX_CLIENT_LITERAL, MAX_INPUT_BEFORE_LOGIN } from './limits.ts';

/** A command cut into pieces: text, literal, text, … An even index is text (perhaps empty, without `{n}` and CRLF), an odd one a literal. */
export type CommandParts = readonly Buffer[];

/** Why a connection cannot go on. */
export type Hopeless = 'http' | 'nul' | 'line-too-long' | 'literal-too-large' | 'too-much-input';

/** What the framer found next. */
export type Frame =
  /** A whole command. */
  | { readonly type: 'command'; readonly parts: CommandParts }
  /** A synchronizing literal was announced: the client waits for `+`. */
  | { readonly type: 'continue' }
  /**
   * A literal beyond the cap was announced; `parts` is the command up to it, which is dropped. A client that waits for `+` may be told NO and go on;
   * what one sends unasked (RFC 7888) cannot be told from commands, and only hopeless frames follow.
   */
  | { readonly type: 'too-large'; readonly parts: CommandParts; readonly synchronizing: boolean }
  /** Close at once. Every later call gives the same. */
  | { readonly type: 'hopeless'; readonly reason: Hopeless };

/** Caps of a {@link Framer}, octets. */
export interface FramerLimits {
  readonly total: number;
  readonly line: number;
  readonly literal: number;
}

/** The caps of a connection before login. */
export const BEFORE_LOGIN: FramerLimits = {
  total: MAX_INPUT_BEFORE_LOGIN,
  line: MAX_CLIENT_LINE,
  literal: MAX_CLIENT_LITERAL,
};

const LF = 0x0a;
const CR = 0x0d;
const LITERAL = /\{(\d+)(\+?)\}$/;
/** A browser's request line (RFC 9112 §3); no IMAP command ends so. */
const HTTP = /^[A-Za-z]+ \S+ HTTP\/\d/;

/** Takes octets in pieces of any size and gives commands. Pull: what was not asked for stays as it came (see {@link Framer.rest}). */
export class Framer {
  readonly #limits: FramerLimits;
  #held: Buffer = Buffer.alloc(0);
  #taken = 0;
  #parts: Buffer[] = [];
  #literal: number | undefined;
  #hopeless: Hopeless | undefined;

  constructor(limits: FramerLimits = BEFORE_LOGIN) {
    this.#limits = limits;
  }

  /** Adds what arrived. */
  push(bytes: Uint8Array): void {
    this.#held = this.#held.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.#held, bytes]);
  }

  /** Octets held and not yet framed. */
  get held(): number {
    return this.#held.length;
  }

  /**
   * The next frame, or undefined when more octets are needed. `line` takes one line as it is, with no literals: a SASL response
   * (RFC 3501 §6.2.2).
   */
  next(kind: 'command' | 'line' = 'command'): Frame | undefined {
    for (;;) {
      if (this.#hopeless !== undefined) return { type: 'hopeless', reason: this.#hopeless };
      if (this.#literal !== undefined && !this.#takeLiteral(this.#literal)) return this.#unfinished();
      const line = this.#takeLine();
      if (line === undefined) return this.#unfinished();
      if (this.#hopeless !== undefined) continue;
      const [announced, size, plus] = kind === 'line' ? [] : (LITERAL.exec(line.toString('latin1')) ?? []);
      if (announced === undefined) {
        const parts = [...this.#parts, line];
        this.#parts = [];
        return { type: 'command', parts };
      }
      this.#parts.push(line.subarray(0, line.length - announced.length));
      if (Number(size) > this.#limits.literal) return this.#tooLarge(plus === '');
      this.#literal = Number(size);
      if (this.#taken + this.#literal > this.#limits.total) this.#hopeless = 'too-much-input';
      else if (plus === '') return { type: 'continue' };
    }
  }

  /** Gives up what is held, as it came, and forgets it: the octets that follow the last command. */
  rest(): Buffer {
    const rest = this.#held;
    this.#held = Buffer.alloc(0);
    return rest;
  }

  #tooLarge(synchronizing: boolean): Frame {
    const parts = this.#parts;
    this.#parts = [];
    if (!synchronizing) this.#hopeless = 'literal-too-large';
    return { type: 'too-large', parts, synchronizing };
  }

  #takeLiteral(size: number): boolean {
    if (this.#held.length < size) return false;
    this.#parts.push(this.#take(size));
    this.#literal = undefined;
    return true;
  }

  /** A line without its end: CRLF, or a bare LF as people type it. */
  #takeLine(): Buffer | undefined {
    const at = this.#held.indexOf(LF);
    if (at < 0 || at > this.#limits.line) return undefined;
    const line = this.#take(at + 1);
    if (this.#parts.length === 0 && HTTP.test(line.toString('latin1'))) this.#hopeless = 'http';
    return line.subarray(0, line[at - 1] === CR ? at - 1 : at);
  }

  #take(length: number): Buffer {
    const taken = this.#held.subarray(0, length);
    this.#held = this.#held.subarray(length);
    this.#taken += length;
    if (this.#taken > this.#limits.total) this.#hopeless = 'too-much-input';
    if (taken.includes(0)) this.#hopeless = 'nul';
    return taken;
  }

  /** What waits for more octets is judged by what is there: nothing that must end badly is waited for. */
  #unfinished(): Frame | undefined {
    if (this.#held.includes(0)) this.#hopeless = 'nul';
    else if (this.#literal === undefined && this.#held.length > this.#limits.line) this.#hopeless = 'line-too-long';
    else if (this.#taken + this.#held.length > this.#limits.total) this.#hopeless = 'too-much-input';
    return this.#hopeless === undefined ? undefined : { type: 'hopeless', reason: this.#hopeless };
  }
}
