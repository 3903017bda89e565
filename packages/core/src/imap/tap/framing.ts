/** Where lines and literals begin and end, in either direction, after login: octets are cut into pieces, never changed (RFC 3501 §4.3, RFC 7888, RFC 3516). */

/** A literal announced at a line's end. `sync`: its sender waits for `+`. */
export interface Literal {
  readonly size: number;
  readonly sync: boolean;
}

/** What a {@link StreamFramer} cuts its input into. The pieces of all its input, one behind the other, are its input. */
export type Piece =
  /** A whole line with its end. `first`: it begins a command or a response; `last`: it ends one. */
  | {
      readonly type: 'line';
      readonly bytes: Buffer;
      readonly first: boolean;
      readonly last: boolean;
      readonly literal?: Literal;
    }
  /** Octets of a literal, as they come; `left` of it are still missing behind them. */
  | { readonly type: 'body'; readonly bytes: Buffer; readonly left: number };

/** What a {@link StreamFramer} is told about its direction. */
export interface FramerOptions {
  /** Longest line that is kept until its end has come, octets. */
  readonly maxLine: number;
  /** Whether a literal may be announced at the end of a line that begins something; a status text may end in `{5}` by chance. */
  readonly announces: (line: Buffer) => boolean;
}

const LF = 0x0a;
const CR = 0x0d;
const BRACE = 0x7d;
const ANNOUNCED = /\{(\d{1,10})([+-]?)\}$/;
/** Longest announcement, octets: `{4294967295+}`. */
const MAX_ANNOUNCED = 14;

/** Cuts one direction of a session. Lines come whole, bodies as they arrive; an unfinished line is kept as a copy. */
export class StreamFramer {
  readonly #o: FramerOptions;
  #held: Buffer[] = [];
  #heldSize = 0;
  #left = 0;
  #first = true;
  #tooLong = false;

  constructor(o: FramerOptions) {
    this.#o = o;
  }

  /** Between two commands or responses, with nothing begun. */
  get atBoundary(): boolean {
    return this.whole && this.#heldSize === 0 && !this.#tooLong;
  }

  /** No more is missing of what has been given out: the last piece ended a command or a response. */
  get whole(): boolean {
    return this.#first && this.#left === 0;
  }

  /** A line was longer than can be kept: nothing is framed any more, see {@link StreamFramer.rest}. */
  get tooLong(): boolean {
    return this.#tooLong;
  }

  /** Cuts a chunk; `each` gets its pieces in order, and may call {@link StreamFramer.abandon}. Stops when a line is too long. */
  push(chunk: Buffer, each: (piece: Piece) => void): void {
    for (let at = 0; at < chunk.length && !this.#tooLong; ) {
      if (this.#left > 0) {
        const end = Math.min(chunk.length, at + this.#left);
        this.#left -= end - at;
        each({
          type: 'body',
          bytes: at === 0 && end === chunk.length ? chunk : chunk.subarray(at, end),
          left: this.#left,
        });
        at = end;
        continue;
      }
      const end = chunk.indexOf(LF, at) + 1;
      if (end === 0) return void this.#hold(chunk.subarray(at));
      const bytes = this.#joined(chunk.subarray(at, end));
      at = end;
      this.#line(bytes, each);
    }
  }

  /** The announced literal will not come: a server has refused the command that announced it. */
  abandon(): void {
    this.#left = 0;
    this.#first = true;
  }

  /** The line that is kept, as it came. */
  get held(): Buffer {
    return Buffer.concat(this.#held);
  }

  /** Gives up the line that is kept, as it came, and forgets it. */
  rest(): Buffer {
    const rest = Buffer.concat(this.#held);
    this.#held = [];
    this.#heldSize = 0;
    return rest;
  }

  /** Begins anew: another stream follows. */
  reset(): void {
    this.rest();
    this.abandon();
  }

  #line(bytes: Buffer, each: (piece: Piece) => void): void {
    const first = this.#first;
    const literal = !first || this.#o.announces(bytes) ? announced(bytes) : undefined;
    this.#left = literal?.size ?? 0;
    this.#first = literal === undefined;
    each({ type: 'line', bytes, first, last: literal === undefined, ...(literal === undefined ? {} : { literal }) });
  }

  /** A copy is kept: the chunk's memory may be read into again. */
  #hold(part: Buffer): void {
    this.#held.push(Buffer.from(part));
    this.#heldSize += part.length;
    if (this.#heldSize > this.#o.maxLine) this.#tooLong = true;
  }

  #joined(part: Buffer): Buffer {
    if (this.#heldSize === 0) return part;
    return Buffer.concat([this.rest(), part]);
  }
}

/** The literal a line ends with. */
export function announced(line: Buffer): Literal | undefined {
  const end = line[line.length - 2] === CR ? line.length - 2 : line.length - 1;
  if (line[end - 1] !== BRACE) return undefined;
  const [, size, mode] = ANNOUNCED.exec(line.toString('latin1', Math.max(0, end - MAX_ANNOUNCED), end)) ?? [];
  return size === undefined ? undefined : { size: Number(size), sync: mode === '' };
}

const STATUS = /^(?:\+|\* (?:OK|NO|BAD|BYE|PREAUTH)\b|[^*])/i;

/** For responses: status lines and `+` announce nothing, whatever their text ends with. */
export function responseAnnounces(line: Buffer): boolean {
  return !STATUS.test(line.toString('latin1', 0, 12));
}

/** For commands: any line may. */
export function commandAnnounces(): boolean {
  return true;
}
