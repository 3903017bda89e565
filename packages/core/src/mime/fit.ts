/**
 * Makes a message fit for a server: what a line of SMTP cannot carry is encoded, part by part (RFC 2045 §6), and what needs no change keeps every octet. Twice through the message:
 * a survey finds what is in each part, then the parts are written.
 */
import { MAX_TEXT_LINE_OCTETS } from '../smtp/check.ts';
import { type Encoder, encoderOf } from './encoders.ts';
import { CRLF, type Part, walkMessage } from './walk.ts';

/** What a server takes. */
export interface FitOptions {
  /** It has no 8BITMIME (RFC 6152): octets above 127 are encoded too. */
  readonly sevenBit?: boolean;
}

/** What has to be done to a message. */
export interface FitPlan {
  /** Parts whose bodies are encoded, by their index, and how. */
  readonly encodings: ReadonlyMap<number, 'quoted-printable' | 'base64'>;
  /** Of these, parts that are no UTF-8. */
  readonly unknown: ReadonlySet<number>;
  /** Header lines over 998 octets are folded. */
  readonly foldHeaders: boolean;
  /** Nothing says `8bit` any more. */
  readonly sevenBit: boolean;
  /** Why it cannot be made fit: what would have to change is signed or encrypted, a header holds what no header may, or it stands where no encoding reaches. */
  readonly fault?: 'sealed' | 'header' | 'frame';
}

/** Finds out what has to be done. */
export interface Survey {
  push(chunk: Uint8Array): void;
  finish(): FitPlan;
}

/** Writes a message as its plan has it. */
export interface Fitter {
  push(chunk: Uint8Array): Buffer;
  finish(): Buffer;
}

interface Tally {
  readonly part: Part | undefined;
  octets: number;
  /** Octets that quoted-printable writes as three. */
  escapes: number;
  eightBit: boolean;
  /** A long line, a NUL or a bare CR. */
  unfit: boolean;
  /** Reads its octets above 127 as UTF-8 for as long as they are that. */
  utf8: InstanceType<typeof TextDecoder> | undefined;
  line: number;
}

/** True when nothing has to be done. */
export function isFit(plan: FitPlan): boolean {
  return plan.encodings.size === 0 && !plan.foldHeaders && !plan.sevenBit && plan.fault === undefined;
}

/** Makes a {@link Survey} of CRLF text. `push` throws `RangeError` for a header beyond its bound. */
export function surveyMessage(o: FitOptions = {}): Survey {
  const walker = walkMessage();
  const tallies = new Map<number, Tally>();
  let foldHeaders = false;
  let fault: FitPlan['fault'];
  const frame = newTally(undefined);
  const see = (chunk: Uint8Array | undefined): void => {
    for (const piece of chunk === undefined ? walker.finish() : walker.push(chunk)) {
      if (piece.type === 'header') {
        const bad = headerNeeds(piece.fields);
        foldHeaders ||= bad === 'long';
        if (bad === 'unfit' || (bad === 'long' && piece.part.sealed)) fault ??= piece.part.sealed ? 'sealed' : 'header';
      } else if (piece.type === 'frame') {
        // Text between parts has no encoding (RFC 2046 §5.1.1).
        count(frame, piece.bytes, piece.bytes.at(-1) === 0x0a);
        if (frame.unfit) fault ??= 'frame';
      } else if (piece.type === 'body') {
        const { part } = piece;
        const tally = tallies.get(part.index) ?? newTally(part);
        tallies.set(part.index, tally);
        count(tally, piece.bytes, piece.ends);
      }
    }
  };
  return {
    push: see,
    finish() {
      see(undefined);
      const encodings = new Map<number, 'quoted-printable' | 'base64'>();
      const unknown = new Set<number>();
      for (const [index, tally] of tallies) {
        if (!tally.unfit && !(o.sevenBit === true && tally.eightBit)) continue;
        if (tally.part?.sealed) fault ??= 'sealed';
        else if (!mayEncode(tally.part)) fault ??= 'frame';
        else encodings.set(index, choose(tally));
        if (tally.eightBit && !isUtf8(tally)) unknown.add(index);
      }
      return {
        encodings,
        unknown,
        foldHeaders,
        sevenBit: o.sevenBit === true,
        ...(fault === undefined ? {} : { fault }),
      };
    },
  };
}

/** Parts of parts are never encoded themselves (RFC 2045 §6.4), nor what has an encoding of its own. */
function mayEncode(part: Part | undefined): boolean {
  if (part === undefined || /^(?:multipart|message)\//.test(part.mediaType)) return false;
  return ['7bit', '8bit', 'binary', 'quoted-printable', 'base64'].includes(part.encoding);
}

function newTally(part: Part | undefined): Tally {
  return {
    part,
    octets: 0,
    escapes: 0,
    eightBit: false,
    unfit: false,
    utf8: new TextDecoder('utf-8', { fatal: true }),
    line: 0,
  };
}

function count(tally: Tally, bytes: Buffer, ends: boolean): void {
  tally.octets += bytes.length;
  const length = ends && bytes.at(-2) === 0x0d ? bytes.length - 2 : bytes.length;
  tally.line += length;
  if (tally.line > MAX_TEXT_LINE_OCTETS) tally.unfit = true;
  if (ends) tally.line = 0;
  for (let at = 0; at < length; at += 1) {
    const octet = bytes[at] as number;
    if (octet >= 0x20 && octet < 0x7f && octet !== 0x3d) continue;
    if (octet === 0x09) continue;
    tally.escapes += 1;
    if (octet > 0x7f) tally.eightBit = true;
    else if (octet === 0 || octet === 0x0d || octet === 0x0a) tally.unfit = true;
  }
  if (ends && length === bytes.length) tally.unfit = true;
  if (tally.eightBit && tally.part?.hasContentType === false) decode(tally, bytes);
}

function decode(tally: Tally, bytes?: Buffer): void {
  try {
    tally.utf8?.decode(bytes, { stream: bytes !== undefined });
  } catch {
    tally.utf8 = undefined;
  }
}

/** What a sender that names no character set may have meant: UTF-8 where it is that, else nobody can know. */
function isUtf8(tally: Tally): boolean {
  decode(tally);
  return tally.utf8 !== undefined;
}

/** Base64 where more than half would be escapes; what is encoded already keeps its encoding, with shorter lines. */
function choose({ part, octets, escapes }: Tally): 'quoted-printable' | 'base64' {
  if (part?.encoding === 'base64' || part?.encoding === 'quoted-printable') return part.encoding;
  return escapes * 2 > octets ? 'base64' : 'quoted-printable';
}

function headerNeeds(fields: Buffer): 'fit' | 'long' | 'unfit' {
  let long = false;
  for (const line of linesOf(fields)) {
    const text = line.at(-2) === 0x0d && line.at(-1) === 0x0a ? line.subarray(0, -2) : line;
    if (text.includes(0) || text.includes(0x0d) || text.includes(0x0a)) return 'unfit';
    if (text.length > MAX_TEXT_LINE_OCTETS) {
      if (foldLine(line).some((piece) => piece.length > MAX_TEXT_LINE_OCTETS + 2)) return 'unfit';
      long = true;
    }
  }
  return long ? 'long' : 'fit';
}

/** The lines of a header, each with its end. */
function* linesOf(fields: Buffer): Generator<Buffer> {
  for (let at = 0; at < fields.length; ) {
    const end = fields.indexOf(0x0a, at);
    const line = fields.subarray(at, end < 0 ? fields.length : end + 1);
    yield line;
    at += line.length;
  }
}

/** Where a line may be broken before 998 octets have passed: at white space that is not all there is before it (RFC 5322 §2.2.3). */
function foldPoint(line: Buffer, from: number): number | undefined {
  for (let at = Math.min(from + MAX_TEXT_LINE_OCTETS, line.length - 1); at > from + 1; at -= 1) {
    if ((line[at] === 0x20 || line[at] === 0x09) && line[at - 1] !== 0x20 && line[at - 1] !== 0x09) return at;
  }
  return undefined;
}

/** Makes a {@link Fitter}. The message must be the one that was surveyed. */
export function fitMessage(plan: FitPlan): Fitter {
  const walker = walkMessage();
  let encoder: Encoder | undefined;
  let out: Buffer[] = [];
  const endPart = (framed: boolean): void => {
    if (encoder !== undefined) out.push(encoder.finish(framed));
    encoder = undefined;
  };
  const write = (pieces: ReturnType<typeof walker.push>): void => {
    for (const piece of pieces) {
      if (piece.type === 'body') {
        const encoding = plan.encodings.get(piece.part.index);
        if (encoding === undefined) out.push(piece.bytes);
        else {
          encoder ??= encoderOf(encoding, piece.part.encoding);
          out.push(encoder.push(piece.bytes, piece.ends));
        }
        continue;
      }
      endPart(piece.type === 'frame');
      if (piece.type === 'frame') out.push(piece.bytes);
      else out.push(headerOf(piece.part, piece.fields, plan), piece.end);
    }
  };
  const flush = (): Buffer => {
    const written = out.length === 1 ? (out[0] as Buffer) : Buffer.concat(out);
    out = [];
    return written;
  };
  return {
    push(chunk) {
      write(walker.push(chunk));
      return flush();
    },
    finish() {
      write(walker.finish());
      endPart(false);
      return flush();
    },
  };
}

/** The message as its plan has it; it is passed through where nothing has to be done. */
export async function* fitted(message: AsyncIterable<Uint8Array>, plan: FitPlan): AsyncGenerator<Uint8Array> {
  if (isFit(plan)) return yield* message;
  const fitter = fitMessage(plan);
  for await (const chunk of message) yield fitter.push(chunk);
  yield fitter.finish();
}

function headerOf(part: Part, fields: Buffer, plan: FitPlan): Buffer {
  const encoding = plan.encodings.get(part.index);
  const folded = plan.foldHeaders && !part.sealed ? foldLong(fields) : fields;
  if (encoding === undefined && plan.sevenBit && !part.sealed) return Buffer.from(asSevenBit(folded), 'latin1');
  if (encoding === undefined || part.encoding === encoding) return folded;
  const kept = folded.toString('latin1').replace(/^content-transfer-encoding[ \t]*:.*\r\n(?:[ \t].*\r\n)*/gim, '');
  const added = [
    // A part that has none is text in a set of characters nobody named (RFC 2046 §4.1.2, RFC 1428 §3).
    ...(part.hasContentType
      ? []
      : [`Content-Type: text/plain; charset=${plan.unknown.has(part.index) ? 'unknown-8bit' : 'utf-8'}\r\n`]),
    ...(part.message && !part.hasMimeVersion ? ['MIME-Version: 1.0\r\n'] : []),
    `Content-Transfer-Encoding: ${encoding}\r\n`,
  ];
  return Buffer.from(`${kept}${added.join('')}`, 'latin1');
}

/** A part with nothing above 127 in it, called what it is: a multipart may say no more than its parts (RFC 2045 §6.4). */
function asSevenBit(fields: Buffer): string {
  return fields
    .toString('latin1')
    .replace(/^(content-transfer-encoding[ \t]*:[ \t]*)(?:8bit|binary)[ \t]*(?=\r\n(?![ \t]))/gim, '$17bit');
}

function foldLong(fields: Buffer): Buffer {
  const out: Buffer[] = [];
  for (const line of linesOf(fields)) {
    for (const [index, piece] of foldLine(line).entries()) out.push(...(index === 0 ? [] : [CRLF]), piece);
  }
  return Buffer.concat(out);
}

/** A line cut where it may be folded; a piece that is still too long has no such place. */
function foldLine(line: Buffer): Buffer[] {
  const pieces: Buffer[] = [];
  let from = 0;
  while (line.length - from > MAX_TEXT_LINE_OCTETS + 2) {
    const point = foldPoint(line, from);
    if (point === undefined) break;
    pieces.push(line.subarray(from, point));
    from = point;
  }
  return [...pieces, line.subarray(from)];
}
