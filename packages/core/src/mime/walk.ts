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
  /** Lower case; where nothing is said, `text/plain`, or `message/rfc822` in a digest. */
  readonly mediaType: string;
  /** Content-Transfer-Encoding in lower case, `7bit` where nothing is said. */
  readonly encoding: string;
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
  /** A line of a leaf's body, or a piece of a long one. `ends`: with its CRLF. */
  | { readonly type: 'body'; readonly part: Part; readonly bytes: Buffer; readonly ends: boolean }
  /** A boundary, or text before the first and behind the last. */
  | { readonly type: 'frame'; readonly bytes: Buffer };

/** Takes a message in pieces of any size. */
export interface Walker {
  /** Throws `RangeError` past {@link MAX_PART_HEADER_OCTETS}. */
  push(chunk: Uint8Array): Piece[];
  finish(): Piece[];
}

interface Level {
  readonly boundary: string;
  readonly sealed: boolean;
  /** A part without a type is a message here (RFC 2046 §5.1.5). */
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
  /** A line too long for a boundary is on its way. */
  #inLongLine = false;

  push(chunk: Uint8Array): Piece[] {
    this.#pending = this.#pending.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#pending, chunk]);
    let at = 0;
    for (let end = this.#pending.indexOf(LF); end >= 0; end = this.#pending.indexOf(LF, at)) {
      this.#line(this.#pending.subarray(at, end + 1), true);
      at = end + 1;
    }
    this.#pending = this.#pending.subarray(at);
    // What is no boundary any more need not wait for its end; a CR may belong to a CRLF.
    if (this.#header === undefined && (this.#inLongLine || this.#pending.length > BOUNDARY_LINE)) {
      const cut = this.#pending.at(-1) === 0x0d ? this.#pending.length - 1 : this.#pending.length;
      if (cut > 0) this.#line(this.#pending.subarray(0, cut), false);
      this.#pending = this.#pending.subarray(cut);
    }
    if (this.#header !== undefined && this.#headerOctets + this.#pending.length > MAX_PART_HEADER_OCTETS) tooLong();
    return this.#take();
  }

  finish(): Piece[] {
    if (this.#pending.length > 0) this.#line(this.#pending, false);
    this.#pending = Buffer.alloc(0);
    if (this.#header !== undefined) this.#endHeader(Buffer.alloc(0));
    return this.#take();
  }

  #take(): Piece[] {
    const pieces = this.#pieces;
    this.#pieces = [];
    return pieces;
  }

  #line(bytes: Buffer, ends: boolean): void {
    const boundary = this.#inLongLine ? undefined : this.#boundaryIn(bytes);
    if (boundary !== undefined) this.#atBoundary(bytes, boundary);
    else if (this.#header !== undefined) this.#headerLine(bytes);
    else {
      this.#inLongLine = !ends;
      const part = this.#leaf;
      this.#pieces.push(part === undefined ? { type: 'frame', bytes } : { type: 'body', part, bytes, ends });
    }
  }

  #headerLine(line: Buffer): void {
    this.#headerOctets += line.length;
    if (this.#headerOctets > MAX_PART_HEADER_OCTETS) tooLong();
    if (line.equals(CRLF)) this.#endHeader(line);
    else this.#header?.push(line);
  }

  #boundaryIn(bytes: Buffer): { level: number; last: boolean } | undefined {
    if (bytes.length > BOUNDARY_LINE || bytes[0] !== 0x2d || bytes[1] !== 0x2d) return undefined;
    const text = bytes.toString('latin1').trimEnd();
    for (let level = this.#levels.length - 1; level >= 0; level -= 1) {
      const delimiter = `--${this.#levels[level]?.boundary}`;
      if (text === delimiter) return { level, last: false };
      if (text === `${delimiter}--`) return { level, last: true };
    }
    return undefined;
  }

  #atBoundary(bytes: Buffer, { level, last }: { level: number; last: boolean }): void {
    if (this.#header !== undefined) this.#endHeader(Buffer.alloc(0));
    this.#levels.length = last ? level : level + 1;
    this.#sealed = this.#levels.at(-1)?.sealed ?? false;
    this.#leaf = undefined;
    this.#header = last ? undefined : [];
    this.#ofMessage = false;
    this.#headerOctets = 0;
    this.#pieces.push({ type: 'frame', bytes });
  }

  #endHeader(end: Buffer): void {
    const fields = Buffer.concat(this.#header ?? []);
    const inDigest = !this.#ofMessage && this.#levels.at(-1)?.digest === true;
    const here = { index: this.#count++, sealed: this.#sealed, message: this.#ofMessage, inDigest };
    const { part, boundary, message } = readHeader(fields, here);
    const inside = this.#levels.length < MAX_DEPTH && end.length > 0;
    this.#pieces.push({ type: 'header', part, fields, end });
    this.#sealed = part.sealed;
    this.#header = undefined;
    this.#leaf = undefined;
    if (boundary !== undefined && inside) {
      this.#levels.push({ boundary, sealed: part.sealed, digest: part.mediaType === 'multipart/digest' });
    } else if (message && inside) {
      this.#header = [];
      this.#ofMessage = true;
    } else this.#leaf = part.leaf ? part : { ...part, leaf: true };
    this.#headerOctets = 0;
  }
}

/** Encodings that leave octets as they are (RFC 2045 §6.2). */
const IDENTITY = ['7bit', '8bit', 'binary'];
const SEALED = ['multipart/signed', 'multipart/encrypted', 'application/pkcs7-mime', 'application/x-pkcs7-mime'];

function tooLong(): never {
  throw new RangeError(`a header is over ${MAX_PART_HEADER_OCTETS} octets`);
}

function readHeader(
  fields: Buffer,
  o: { index: number; sealed: boolean; message: boolean; inDigest: boolean },
): { part: Part; boundary: string | undefined; message: boolean } {
  const text = fields.toString('latin1').replace(/\r\n(?=[ \t])/g, '');
  const value = (name: string): string | undefined => new RegExp(`^${name}[ \\t]*:(.*)$`, 'im').exec(text)?.[1]?.trim();
  const type = value('content-type');
  const mediaType =
    /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+/.exec(type ?? '')?.[0].toLowerCase() ??
    (o.inDigest && type === undefined ? 'message/rfc822' : 'text/plain');
  const encoding = (value('content-transfer-encoding') ?? '7bit')
    .replace(/\(.*?\)/g, '')
    .trim()
    .toLowerCase();
  const [, quoted, bare] = /;\s*boundary\s*=\s*(?:"([^"]*)"|([^\s;"]+))/i.exec(type ?? '') ?? [];
  const boundary = mediaType.startsWith('multipart/') ? (quoted ?? bare)?.trimEnd() : undefined;
  const plain = IDENTITY.includes(encoding);
  const message = plain && (mediaType === 'message/rfc822' || mediaType === 'message/global');
  const sealed = o.sealed || SEALED.includes(mediaType) || (o.index === 0 && value('dkim-signature') !== undefined);
  return {
    part: {
      ...{ index: o.index, message: o.message, mediaType, encoding, sealed },
      leaf: !(plain && boundary) && !message,
      hasContentType: type !== undefined,
      hasMimeVersion: value('mime-version') !== undefined,
    },
    boundary: plain && boundary ? boundary : undefined,
    message,
  };
}
