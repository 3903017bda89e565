/**
 * Walks a message of CRLF text part by part (RFC 2045, RFC 2046 §5): octets in, pieces out, in their order and all of them, so that pieces joined are the
 * message. A body of any size goes through in pieces; only headers are held, up to a bound.
 */

/** Octets of one part's header. */
export const MAX_PART_HEADER_OCTETS: number = 1024 * 1024;
/** Parts in parts; what lies deeper is the text of a leaf. */
const MAX_DEPTH = 32;
/** No boundary is longer than 70 characters (RFC 2046 §5.1.1), so a longer line is none. */
const BOUNDARY_LINE = 200;
const LF = 0x0a;
/** A line's end. */
export const CRLF: Buffer = Buffer.from('\r\n');

/** What a part's header says of its body. */
export interface Part {
  /** 0 for the message, counted as they come. */
  readonly index: number;
  /** Lower case, `text/plain` where nothing is said. */
  readonly mediaType: string;
  /** Content-Transfer-Encoding in lower case, `7bit` where nothing is said. */
  readonly encoding: string;
  /** As Content-Type names it, in lower case. */
  readonly charset: string | undefined;
  /** Has a body of its own, and no parts. */
  readonly leaf: boolean;
  /** Signed or encrypted, or within what is: nothing in it may change. */
  readonly sealed: boolean;
  /** The header is a message's, and not that of a part of one. */
  readonly message: boolean;
  readonly hasContentType: boolean;
  readonly hasMimeVersion: boolean;
}

/** A piece of a message. */
export type Piece =
  /** The header as it stands, and the empty line behind it (none where the message ends in its header). */
  | { readonly type: 'header'; readonly part: Part; readonly fields: Buffer; readonly end: Buffer }
  /** Some octets of a leaf's body, of any number of lines. */
  | { readonly type: 'body'; readonly part: Part; readonly bytes: Buffer }
  /** A boundary's line (`delimiter`), or text before the first and behind the last. */
  | { readonly type: 'frame'; readonly bytes: Buffer; readonly delimiter: boolean };

/** Takes a message in pieces of any size. */
export interface Walker {
  /** A header past {@link MAX_PART_HEADER_OCTETS} is taken for the body of a part that cannot be read. */
  push(chunk: Uint8Array): Piece[];
  finish(): Piece[];
}

interface Level {
  readonly boundary: string;
  readonly sealed: boolean;
  /** Its parts are messages where they do not say what they are (RFC 2046 §5.1.5). */
  readonly digest: boolean;
}

/** Makes a {@link Walker}. */
export function walkMessage(): Walker {
  return new MessageWalker();
}

class MessageWalker implements Walker {
  #pieces: Piece[] = [];
  #pending: Buffer = Buffer.alloc(0);
  /** Lines of the header being read; undefined outside one. */
  #header: Buffer[] | undefined = [];
  #headerOctets = 0;
  /** The leaf whose body is being read; undefined in a frame. */
  #leaf: Part | undefined;
  #levels: Level[] = [];
  #sealed = false;
  #count = 0;
  /** The header being read is that of a message. */
  #ofMessage = true;
  /** Of a part that says nothing of its type (RFC 2046 §5.1.5). */
  #defaultType = TEXT;
  /** The next octet begins a line. */
  #atStart = true;

  push(chunk: Uint8Array): Piece[] {
    const fresh = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const bytes = this.#pending.length === 0 ? fresh : Buffer.concat([this.#pending, fresh]);
    let at = 0;
    for (let next = -1; next !== at; ) {
      if (next >= 0) at = next;
      next = this.#header === undefined ? this.#body(bytes, at) : this.#headerLines(bytes, at);
    }
    this.#pending = at === bytes.length ? NOTHING : Buffer.from(bytes.subarray(at));
    return this.#take();
  }

  finish(): Piece[] {
    const rest = this.#pending;
    this.#pending = NOTHING;
    if (rest.length > 0) {
      const boundary = this.#atStart ? this.#boundaryIn(rest) : undefined;
      if (boundary !== undefined) this.#atBoundary(rest, boundary);
      else if (this.#header !== undefined) this.#headerLine(rest);
      else this.#text(rest);
    }
    if (this.#header !== undefined) this.#endHeader(NOTHING);
    return this.#take();
  }

  #take(): Piece[] {
    const pieces = this.#pieces;
    this.#pieces = [];
    return pieces;
  }

  /** Takes lines of a header, from `from`; gives how far it came: as far as there are whole lines, or to the end of the header. */
  #headerLines(bytes: Buffer, from: number): number {
    let at = from;
    while (this.#header !== undefined) {
      const end = bytes.indexOf(LF, at);
      if (end < 0) {
        if (this.#headerOctets + bytes.length - at > MAX_PART_HEADER_OCTETS) this.#overflow();
        return at;
      }
      const line = bytes.subarray(at, end + 1);
      const boundary = this.#boundaryIn(line);
      if (boundary !== undefined) this.#atBoundary(line, boundary);
      else if (this.#headerOctets + line.length > MAX_PART_HEADER_OCTETS) {
        this.#overflow();
        return at;
      } else this.#headerLine(line);
      at = end + 1;
    }
    return at;
  }

  /** Takes text of a leaf or a frame, from `from`, up to the next boundary and with it; gives how far it came. What may become a boundary waits. */
  #body(bytes: Buffer, from: number): number {
    if (from === bytes.length) return from;
    if (this.#levels.length === 0) {
      this.#text(from === 0 ? bytes : bytes.subarray(from));
      return bytes.length;
    }
    let at = this.#atStart ? from : nextLine(bytes, from);
    while (at < bytes.length) {
      const start = at;
      at = nextLine(bytes, start);
      const whole = bytes[at - 1] === LF;
      if (bytes[start] !== DASH || (start + 1 < bytes.length && bytes[start + 1] !== DASH)) {
        // Straight to the next line that may be one.
        const dashes = bytes.indexOf(LINE_OF_DASHES, Math.max(start, at - 1));
        at = dashes < 0 ? lastLine(bytes, at) : dashes + 1;
        if (dashes < 0) break;
        continue;
      }
      if (!whole && bytes.length - start <= BOUNDARY_LINE) return this.#textUpTo(bytes, from, start);
      const boundary = this.#boundaryIn(bytes.subarray(start, at));
      if (boundary === undefined) continue;
      this.#textUpTo(bytes, from, start);
      this.#atBoundary(bytes.subarray(start, at), boundary);
      return at;
    }
    return this.#textUpTo(bytes, from, at);
  }

  #textUpTo(bytes: Buffer, from: number, to: number): number {
    if (to > from) this.#text(bytes.subarray(from, to));
    return to;
  }

  #text(bytes: Buffer): void {
    const part = this.#leaf;
    this.#atStart = bytes.at(-1) === LF;
    this.#pieces.push(part === undefined ? { type: 'frame', bytes, delimiter: false } : { type: 'body', part, bytes });
  }

  #headerLine(line: Buffer): void {
    this.#headerOctets += line.length;
    if (line.equals(CRLF)) this.#endHeader(line);
    else this.#header?.push(Buffer.from(line));
  }

  #boundaryIn(bytes: Buffer): { level: number; last: boolean } | undefined {
    if (bytes.length > BOUNDARY_LINE || bytes[0] !== DASH || bytes[1] !== DASH) return undefined;
    const text = bytes.toString('latin1').trimEnd();
    for (let level = this.#levels.length - 1; level >= 0; level -= 1) {
      const delimiter = `--${this.#levels[level]?.boundary}`;
      if (text === delimiter) return { level, last: false };
      if (text === `${delimiter}--`) return { level, last: true };
    }
    return undefined;
  }

  #atBoundary(bytes: Buffer, { level, last }: { level: number; last: boolean }): void {
    if (this.#header !== undefined) this.#endHeader(NOTHING);
    this.#levels.length = last ? level : level + 1;
    const inner = this.#levels.at(-1);
    this.#sealed = inner?.sealed ?? false;
    this.#defaultType = inner?.digest === true ? 'message/rfc822' : TEXT;
    this.#leaf = undefined;
    this.#header = last ? undefined : [];
    this.#ofMessage = false;
    this.#headerOctets = 0;
    this.#atStart = true;
    this.#pieces.push({ type: 'frame', bytes, delimiter: true });
  }

  #endHeader(end: Buffer): void {
    const fields = Buffer.concat(this.#header ?? []);
    const here = { index: this.#count++, sealed: this.#sealed, message: this.#ofMessage, type: this.#defaultType };
    const { part, boundary, message } = readHeader(fields, here);
    const inside = this.#levels.length < MAX_DEPTH && end.length > 0;
    this.#pieces.push({ type: 'header', part, fields, end });
    this.#sealed = part.sealed;
    this.#header = undefined;
    this.#leaf = undefined;
    this.#defaultType = TEXT;
    this.#atStart = true;
    if (boundary !== undefined && inside)
      this.#levels.push({ boundary, sealed: part.sealed, digest: part.mediaType === 'multipart/digest' });
    else if (message && inside) {
      this.#header = [];
      this.#ofMessage = true;
    } else this.#leaf = part.leaf ? part : { ...part, leaf: true };
    this.#headerOctets = 0;
  }

  /** A header beyond its bound is none: it and what follows is text of a part nobody can read. */
  #overflow(): void {
    const part: Part = {
      ...{ index: this.#count++, mediaType: 'message/x-unread', encoding: 'x-unread', charset: undefined, leaf: true },
      ...{ sealed: this.#sealed, message: this.#ofMessage, hasContentType: true, hasMimeVersion: true },
    };
    const lines = Buffer.concat(this.#header ?? []);
    this.#header = undefined;
    this.#headerOctets = 0;
    this.#leaf = part;
    if (lines.length > 0) this.#text(lines);
    this.#atStart = true;
  }
}

const NOTHING: Buffer = Buffer.alloc(0);
const DASH = 0x2d;
const LINE_OF_DASHES = '\n--';
const TEXT = 'text/plain';

/** Behind the line end that comes next, or the end. */
function nextLine(bytes: Buffer, from: number): number {
  const end = bytes.indexOf(LF, from);
  return end < 0 ? bytes.length : end + 1;
}

/** Where a last line begins that may yet become one of dashes: behind the last LF, when a dash or nothing stands there; else the end. */
function lastLine(bytes: Buffer, from: number): number {
  const last = bytes.lastIndexOf(LF) + 1;
  return last >= from && last === bytes.length - 1 && bytes[last] === DASH ? last : bytes.length;
}

/** Encodings that leave octets as they are (RFC 2045 §6.2). */
const IDENTITY = ['7bit', '8bit', 'binary'];
const SEALED = ['multipart/signed', 'multipart/encrypted', 'application/pkcs7-mime', 'application/x-pkcs7-mime'];

function readHeader(
  fields: Buffer,
  o: { index: number; sealed: boolean; message: boolean; type: string },
): { part: Part; boundary: string | undefined; message: boolean } {
  const text = fields.toString('latin1').replace(/\r\n(?=[ \t])/g, '');
  const value = (name: string): string | undefined => new RegExp(`^${name}[ \\t]*:(.*)$`, 'im').exec(text)?.[1]?.trim();
  const type = value('content-type');
  const mediaType =
    /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+/.exec(type ?? '')?.[0].toLowerCase() ?? (type === undefined ? o.type : TEXT);
  const encoding = (value('content-transfer-encoding') ?? '7bit')
    .replace(/\(.*?\)/g, '')
    .trim()
    .toLowerCase();
  const [, quoted, bare] = /;\s*boundary\s*=\s*(?:"([^"]*)"|([^\s;"]+))/i.exec(type ?? '') ?? [];
  const boundary = mediaType.startsWith('multipart/') ? (quoted ?? bare)?.trimEnd() : undefined;
  const charset = /;\s*charset\s*=\s*"?([^\s;"]+)/i.exec(type ?? '')?.[1]?.toLowerCase();
  const plain = IDENTITY.includes(encoding);
  const message = plain && (mediaType === 'message/rfc822' || mediaType === 'message/global');
  const sealed = o.sealed || SEALED.includes(mediaType) || (o.index === 0 && value('dkim-signature') !== undefined);
  return {
    part: {
      ...{ index: o.index, message: o.message, mediaType, encoding, charset, sealed },
      leaf: !(plain && boundary) && !message,
      hasContentType: type !== undefined,
      hasMimeVersion: value('mime-version') !== undefined,
    },
    boundary: plain && boundary ? boundary : undefined,
    message,
  };
}
