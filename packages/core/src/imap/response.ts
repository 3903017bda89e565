/** Responses of the far side, as far as they are read before the splice: status lines and capabilities (RFC 3501 §7.1, §7.2.1). */
import { MAX_FAR_ASIDE, MAX_FAR_LINE, MAX_NOISE } from './limits.ts';

/** A status response; `tag` is `*` for an untagged one. Texts are latin1 and from afar: escape before showing. */
export interface StatusResponse {
  readonly tag: string;
  readonly type: 'ok' | 'no' | 'bad' | 'bye' | 'preauth';
  /** Response code in brackets: its name in upper case and the rest. */
  readonly code?: { readonly name: string; readonly value: string };
  readonly text: string;
}

const STATUS = /^(\S+) (OK|NO|BAD|BYE|PREAUTH)(?: (?:\[([^\] ]+)(?: ([^\]]*))?\] ?)?(.*))?$/is;

/** Reads a line without its CRLF; undefined when it is no status response. */
export function parseStatus(line: string): StatusResponse | undefined {
  const [, tag, type, name, value, text] = STATUS.exec(line) ?? [];
  if (tag === undefined || type === undefined) return undefined;
  return {
    tag,
    type: type.toLowerCase() as StatusResponse['type'],
    ...(name === undefined ? {} : { code: { name: name.toUpperCase(), value: value ?? '' } }),
    text: text ?? '',
  };
}

/** The capabilities a line tells: `* CAPABILITY …`, or a status response with a CAPABILITY code. In the order and case received. */
export function parseCapabilities(line: string): readonly string[] | undefined {
  const status = parseStatus(line);
  const list = status?.code?.name === 'CAPABILITY' ? status.code.value : /^\* CAPABILITY( .*)?$/is.exec(line)?.[1];
  return list === undefined ? undefined : list.split(' ').filter((name) => name !== '');
}

/**
 * The far capabilities as a client may see them once it is logged in: without STARTTLS, LOGINDISABLED and AUTH=, which speak of
 * a login that is over (mailutils 3.15 lists them even then).
 */
export function loggedInCapabilities(far: readonly string[]): readonly string[] {
  return far.filter((name) => !/^(?:STARTTLS|LOGINDISABLED|AUTH=.*)$/i.test(name));
}

/** How the wait for the far greeting ended. */
export type Greeting =
  /** `line` is the greeting as received, with its line end; `rest` what came behind it; `skipped` the lines before it. */
  | {
      readonly type: 'preauth';
      readonly line: Buffer;
      readonly capabilities: readonly string[] | undefined;
      readonly rest: Buffer;
      readonly skipped: readonly string[];
    }
  /** It greeted, but wants a login. */
  | { readonly type: 'ok'; readonly line: string }
  | { readonly type: 'bye'; readonly line: string }
  /** Too much that is no greeting; `line` is the first of it. */
  | { readonly type: 'noise'; readonly line: string };

/** A greeting may follow octets without a line end (a prompt or a terminal title that a shell start file prints). */
const PREAUTH = /\* PREAUTH(?: |\r?\n)/i;

/** Reads the far side up to its greeting. Octets in, a {@link Greeting} out, once. */
export class GreetingReader {
  #held: Buffer = Buffer.alloc(0);
  #noise = 0;
  readonly #skipped: string[] = [];

  /** Adds what arrived; a verdict, or undefined when more is needed. */
  receive(bytes: Uint8Array): Greeting | undefined {
    this.#held = Buffer.concat([this.#held, bytes]);
    for (;;) {
      const end = this.#held.indexOf(0x0a) + 1;
      if (end === 0) return this.#held.length > MAX_FAR_LINE ? this.#tooMuch() : undefined;
      if (end > MAX_FAR_LINE) return this.#tooMuch();
      const verdict = this.#judge(this.#held.subarray(0, end), this.#held.subarray(end));
      if (verdict !== undefined) return verdict;
      this.#held = this.#held.subarray(end);
      this.#noise += end;
      if (this.#noise > MAX_NOISE) return this.#tooMuch();
    }
  }

  /** What stood there without being a greeting: the lines skipped, then what has no line end. For messages. */
  get noise(): string {
    return [...this.#skipped, this.#held.subarray(0, MAX_FAR_LINE).toString('latin1')].join('\n').trim();
  }

  #judge(bytes: Buffer, rest: Buffer): Greeting | undefined {
    const text = bytes.toString('latin1');
    const at = text.search(PREAUTH);
    const line = text.slice(Math.max(at, 0)).replace(/\r?\n$/, '');
    if (at >= 0) {
      const greeting = bytes.subarray(at);
      return { type: 'preauth', line: greeting, capabilities: parseCapabilities(line), rest, skipped: this.#skipped };
    }
    const status = parseStatus(line);
    if (status?.tag === '*' && status.type === 'bye') return { type: 'bye', line };
    // Courier 5.0 sends `* OK [ALERT] …` lines before its PREAUTH.
    if (status?.tag === '*' && status.type === 'ok' && status.code?.name !== 'ALERT') return { type: 'ok', line };
    this.#skipped.push(line);
    return undefined;
  }

  #tooMuch(): Greeting {
    return { type: 'noise', line: this.#skipped[0] ?? this.#held.subarray(0, 200).toString('latin1') };
  }
}

/** How the question for capabilities ended. */
export type CapabilityAnswer =
  /** `aside`: untagged responses that were not the answer, as received, for the client; `rest`: what came behind the tagged reply. */
  | {
      readonly type: 'answer';
      readonly capabilities: readonly string[];
      readonly aside: Buffer;
      readonly rest: Buffer;
    }
  | { readonly type: 'bye'; readonly line: string }
  | { readonly type: 'noise'; readonly line: string };

/** Asks a far side whose greeting told no capabilities, and swallows the answer, so that the client never sees a tag not its own. */
export class CapabilityReader {
  /** What to send. */
  readonly question: Buffer;
  readonly #tag = 'postern';
  #held: Buffer = Buffer.alloc(0);
  #aside: Buffer[] = [];
  #asideSize = 0;
  #capabilities: readonly string[] | undefined;

  constructor() {
    this.question = Buffer.from(`${this.#tag} CAPABILITY\r\n`);
  }

  /** Adds what arrived; a verdict, or undefined when more is needed. */
  receive(bytes: Uint8Array): CapabilityAnswer | undefined {
    this.#held = Buffer.concat([this.#held, bytes]);
    for (;;) {
      const end = this.#held.indexOf(0x0a) + 1;
      if (end === 0 && this.#held.length <= MAX_FAR_LINE) return undefined;
      const bytesOfLine = this.#held.subarray(0, end);
      const line = bytesOfLine.toString('latin1').replace(/\r?\n$/, '');
      if (end === 0 || end > MAX_FAR_LINE || this.#asideSize > MAX_FAR_ASIDE) {
        return { type: 'noise', line: this.#held.subarray(0, 200).toString('latin1') };
      }
      this.#held = this.#held.subarray(end);
      const status = parseStatus(line);
      if (status?.tag === '*' && status.type === 'bye') return { type: 'bye', line };
      this.#capabilities = parseCapabilities(line) ?? this.#capabilities;
      if (status?.tag === this.#tag) {
        const capabilities = this.#capabilities ?? ['IMAP4rev1'];
        return { type: 'answer', capabilities, aside: Buffer.concat(this.#aside), rest: this.#held };
      }
      if (parseCapabilities(line) !== undefined && status === undefined) continue;
      this.#aside.push(bytesOfLine);
      this.#asideSize += end;
    }
  }
}
