/**
 * Makes a message fit for a server: what a line of SMTP cannot carry is encoded, part by part (RFC 2045 §6), and what needs no change keeps every octet. Twice through the message:
 * a survey finds what is in each part, then the parts are written.
 */
import { isUtf8 } from 'node:buffer';
import { MAX_TEXT_LINE_OCTETS } from '../smtp/check.ts';
import { type Encoder, encoderOf } from './encoders.ts';
import { createFolder } from './fold.ts';
import { type Part, type Piece, walkMessage } from './walk.ts';
import { encodeHeaderWords } from './words.ts';

/** What a server takes. */
export interface FitOptions {
  /** It has no 8BITMIME (RFC 6152): octets above 127 are encoded too. */
  readonly sevenBit?: boolean;
}

/** What has to be done to a message. */
export interface FitPlan {
  /** Parts whose bodies are encoded, or broken into lines where no encoding may be, by their index. */
  readonly parts: ReadonlyMap<number, 'quoted-printable' | 'base64' | 'fold'>;
  /** What unlabelled 8-bit text of parts is, by their index. */
  readonly charsets: ReadonlyMap<number, 'utf-8' | 'unknown-8bit'>;
  /** Some header has to be changed. */
  readonly headers: boolean;
  /** Text between parts is broken into lines. */
  readonly frames: boolean;
  /** Nothing says `8bit` any more. */
  readonly sevenBit: boolean;
  /** Signed or encrypted text with long lines stays as it is; all else about it can travel. */
  readonly keepsLong: boolean;
  /** Signed or encrypted text is changed, since as it is no server can be given it. */
  readonly breaksSeal: boolean;
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
  /** Has a line over 998 octets. */
  long: boolean;
  /** Has a NUL, a bare CR or a bare LF. */
  forbidden: boolean;
  /** Is UTF-8 so far, but for `tail`, where a character is not whole yet. */
  utf8: boolean;
  tail: Buffer;
  line: number;
  afterCr: boolean;
}

/** True when nothing has to be done. */
export function isFit(plan: FitPlan): boolean {
  return plan.parts.size === 0 && !plan.headers && !plan.frames && !plan.sevenBit;
}

/** Makes a {@link Survey} of CRLF text. */
export function surveyMessage(o: FitOptions = {}): Survey {
  const surveyor = new Surveyor(o.sevenBit === true);
  const walker = walkMessage();
  return {
    push: (chunk) => surveyor.see(walker.push(chunk)),
    finish() {
      surveyor.see(walker.finish());
      return surveyor.plan();
    },
  };
}

class Surveyor {
  readonly #sevenBit: boolean;
  readonly #parts = new Map<number, 'quoted-printable' | 'base64' | 'fold'>();
  readonly #charsets = new Map<number, 'utf-8' | 'unknown-8bit'>();
  #tally: Tally = newTally(undefined);
  #headers = false;
  #frames = false;
  #keepsLong = false;
  #breaksSeal = false;
  /** The message itself is signed, and so is the text between its parts. */
  #sealed = false;

  constructor(sevenBit: boolean) {
    this.#sevenBit = sevenBit;
  }

  see(pieces: readonly Piece[]): void {
    for (const piece of pieces) {
      const part = piece.type === 'body' ? piece.part : undefined;
      if (piece.type === 'header' || part?.index !== this.#tally.part?.index || isDelimiter(piece)) {
        this.#judge();
        this.#tally = newTally(part);
      }
      if (piece.type === 'header') this.#header(piece.part, piece.fields);
      else count(this.#tally, piece.bytes);
    }
  }

  plan(): FitPlan {
    this.#judge();
    return {
      ...{ parts: this.#parts, charsets: this.#charsets, sevenBit: this.#sevenBit },
      ...{ headers: this.#headers, frames: this.#frames },
      ...{ keepsLong: this.#keepsLong, breaksSeal: this.#breaksSeal },
    };
  }

  /** True when what was found makes a change needed; notes what a seal makes of it. */
  #mustChange(found: { forbidden: boolean; long: boolean; eightBit: boolean }, sealed: boolean): boolean {
    const must = found.forbidden || (this.#sevenBit && found.eightBit);
    if (sealed && must) this.#breaksSeal = true;
    if (sealed && found.long && !must) this.#keepsLong = true;
    return must || (found.long && !sealed);
  }

  #header(part: Part, fields: Buffer): void {
    if (part.index === 0) this.#sealed = part.sealed;
    const tally = newTally(undefined);
    count(tally, fields);
    // Its last line has no end where the message ends in its header.
    if (this.#mustChange(tally, part.sealed)) this.#headers = true;
  }

  #judge(): void {
    const tally = this.#tally;
    const { part } = tally;
    tally.forbidden ||= tally.afterCr;
    if (tally.octets === 0 || !this.#mustChange(tally, part?.sealed ?? this.#sealed)) return;
    if (part === undefined) {
      this.#frames = true;
      return;
    }
    this.#parts.set(part.index, remedyFor(tally));
    const { charset, mediaType } = part;
    if (charset !== undefined || !mediaType.startsWith('text/') || !tally.eightBit) return;
    const utf8 = tally.utf8 && tally.tail.length === 0;
    // HTML without a label may name its set inside.
    if (utf8 || mediaType === 'text/plain') this.#charsets.set(part.index, utf8 ? 'utf-8' : 'unknown-8bit');
  }
}

function isDelimiter(piece: Piece): boolean {
  return piece.type === 'frame' && piece.delimiter;
}

function newTally(part: Part | undefined): Tally {
  return {
    ...{ part, octets: 0, escapes: 0, eightBit: false, long: false, forbidden: false },
    ...{ utf8: true, tail: Buffer.alloc(0), line: 0, afterCr: false },
  };
}

/** What an octet is to a line: 0 stands for itself, 1 is an escape, 2 above 127, 3 a CR, 4 an LF, 5 a NUL. */
const KIND: Uint8Array = Uint8Array.from({ length: 256 }, (_, octet) => {
  if (octet === 0) return 5;
  if (octet === 0x0d) return 3;
  if (octet === 0x0a) return 4;
  if (octet > 0x7f) return 2;
  return (octet < 0x20 && octet !== 0x09) || octet === 0x3d || octet === 0x7f ? 1 : 0;
});

function count(tally: Tally, bytes: Buffer): void {
  let { line, escapes, afterCr } = tally;
  let longest = 0;
  let eightBit = false;
  for (let at = 0; at < bytes.length; at += 1) {
    const kind = KIND[bytes[at] as number] as number;
    if (kind === 0 && !afterCr) {
      line += 1;
      continue;
    }
    if (afterCr) {
      afterCr = false;
      if (kind === 4) {
        if (line > longest) longest = line;
        line = 0;
        continue;
      }
      tally.forbidden = true;
      escapes += 1;
      line += 1;
    }
    if (kind === 3) {
      afterCr = true;
      continue;
    }
    line += 1;
    if (kind !== 0) escapes += 1;
    if (kind === 2) eightBit = true;
    else if (kind >= 4) tally.forbidden = true;
  }
  tally.octets += bytes.length;
  tally.line = line;
  tally.escapes = escapes;
  tally.afterCr = afterCr;
  if (Math.max(longest, line) > MAX_TEXT_LINE_OCTETS) tally.long = true;
  const named = tally.part?.charset !== undefined;
  if (!named && (eightBit || tally.tail.length > 0)) seeCharacters(tally, bytes);
  tally.eightBit ||= eightBit;
}

/** Looks whether text above 127 is UTF-8, where characters may be cut. */
function seeCharacters(tally: Tally, bytes: Buffer): void {
  if (!tally.utf8) return;
  const whole = tally.tail.length === 0 ? bytes : Buffer.concat([tally.tail, bytes]);
  let cut = whole.length;
  // A character has four octets at most (RFC 3629 §3).
  for (let back = 1; back <= 3 && back <= whole.length; back += 1) {
    const octet = whole[whole.length - back] as number;
    if (octet < 0x80) break;
    if (octet >= 0xc0) {
      const length = octet >= 0xf0 ? 4 : octet >= 0xe0 ? 3 : 2;
      if (length > back) cut = whole.length - back;
      break;
    }
  }
  tally.tail = Buffer.from(whole.subarray(cut));
  tally.utf8 = isUtf8(whole.subarray(0, cut));
}

/** Parts of parts are never encoded themselves (RFC 2045 §6.4): their lines are broken. A report that is not ASCII may be (RFC 6533 §4). */
function remedyFor(tally: Tally): 'quoted-printable' | 'base64' | 'fold' {
  const { part, octets, escapes } = tally;
  if (part === undefined || part.encoding === 'x-unread') return 'fold';
  // What is encoded already keeps its encoding, with shorter lines.
  if (part.encoding === 'base64' || part.encoding === 'quoted-printable') return part.encoding;
  if (part.mediaType.startsWith('multipart/')) return 'fold';
  if (part.mediaType.startsWith('message/')) return tally.long || tally.forbidden ? 'fold' : 'quoted-printable';
  if (isForeign(part) && !part.mediaType.startsWith('text/')) return 'base64';
  return escapes * 2 > octets ? 'base64' : 'quoted-printable';
}

/** An encoding that is none of RFC 2045 §6.1, such as uuencode, or no encoding at all, such as `8-bit` or `utf-8`. */
function isForeign(part: Part): boolean {
  return !['7bit', '8bit', 'binary', 'quoted-printable', 'base64'].includes(part.encoding);
}

/** Makes a {@link Fitter}. The message must be the one that was surveyed. */
export function fitMessage(plan: FitPlan): Fitter {
  const walker = walkMessage();
  const out: Buffer[] = [];
  /** What changes the body or the text at hand. */
  let changer: Encoder | undefined;
  let current: number | undefined;
  const end = (framed: boolean): void => {
    if (changer !== undefined) out.push(changer.finish(framed));
    changer = undefined;
    current = undefined;
  };
  const write = (pieces: readonly Piece[]): void => {
    for (const piece of pieces) {
      if (piece.type === 'header') {
        end(false);
        out.push(headerOf(piece.part, piece.fields, plan), piece.end);
      } else if (piece.type === 'frame' && piece.delimiter) {
        end(true);
        out.push(plan.frames ? foldWhole(piece.bytes) : piece.bytes);
      } else {
        const index = piece.type === 'body' ? piece.part.index : -1;
        if (index !== current) {
          end(false);
          changer = piece.type === 'body' ? changerOf(piece.part, plan) : frameChanger(plan);
          current = index;
        }
        out.push(changer === undefined ? piece.bytes : changer.push(piece.bytes));
      }
    }
  };
  const flush = (): Buffer => {
    const written = out.length === 1 ? (out[0] as Buffer) : Buffer.concat(out);
    out.length = 0;
    return written;
  };
  return {
    push(chunk) {
      write(walker.push(chunk));
      return flush();
    },
    finish() {
      write(walker.finish());
      end(false);
      return flush();
    },
  };
}

function changerOf(part: Part, plan: FitPlan): Encoder | undefined {
  const remedy = plan.parts.get(part.index);
  if (remedy === undefined) return undefined;
  return remedy === 'fold' ? createFolder({ sevenBit: plan.sevenBit }) : encoderOf(remedy, part.encoding);
}

function frameChanger(plan: FitPlan): Encoder | undefined {
  return plan.frames ? createFolder({ sevenBit: plan.sevenBit }) : undefined;
}

function foldWhole(bytes: Buffer): Buffer {
  const folder = createFolder({ sevenBit: false });
  return Buffer.concat([folder.push(bytes), folder.finish()]);
}

/** The message as its plan has it; it is passed through where nothing has to be done. */
export async function* fitted(message: AsyncIterable<Uint8Array>, plan: FitPlan): AsyncGenerator<Uint8Array> {
  if (isFit(plan)) return yield* message;
  const fitter = fitMessage(plan);
  for await (const chunk of message) yield fitter.push(chunk);
  yield fitter.finish();
}

function headerOf(part: Part, given: Buffer, plan: FitPlan): Buffer {
  const remedy = plan.parts.get(part.index);
  const may = !part.sealed || plan.breaksSeal;
  const whole = plan.headers && may ? foldWhole(given) : given;
  const words = plan.sevenBit && may ? Buffer.from(encodeHeaderWords(whole.toString('latin1')), 'latin1') : whole;
  if (remedy === undefined || remedy === 'fold' || part.encoding === remedy)
    return plan.sevenBit && may ? Buffer.from(asSevenBit(words.toString('latin1')), 'latin1') : words;
  return Buffer.from(
    relabelled(part, words.toString('latin1'), { remedy, charset: plan.charsets.get(part.index) }),
    'latin1',
  );
}

const ENCODING_FIELD = /^content-transfer-encoding[ \t]*:.*\r\n(?:[ \t].*\r\n)*/gim;
const TYPE_FIELD = /^content-type[ \t]*:.*(?:\r\n[ \t].*)*/im;

/** The header of a part whose body is encoded. An encoding of its own is no longer said, but told. */
function relabelled(
  part: Part,
  fields: string,
  { remedy, charset }: { remedy: 'quoted-printable' | 'base64'; charset: string | undefined },
): string {
  const foreign = isForeign(part);
  let kept = fields.replace(ENCODING_FIELD, foreign ? 'Old-$&' : '');
  let type = part.hasContentType ? '' : `Content-Type: text/plain; charset=${charset ?? 'utf-8'}\r\n`;
  if (foreign && !part.mediaType.startsWith('text/')) {
    // What a reader is to take it for anyway (RFC 2045 §6.4).
    kept = kept.replace(TYPE_FIELD, 'Old-$&');
    type = 'Content-Type: application/octet-stream\r\n';
  } else if (charset !== undefined) kept = kept.replace(TYPE_FIELD, `$&; charset=${charset}`);
  const version = part.message && !part.hasMimeVersion ? 'MIME-Version: 1.0\r\n' : '';
  return `${kept}${type}${version}Content-Transfer-Encoding: ${remedy}\r\n`;
}

/** A part with nothing above 127 in it, called what it is: a multipart may say no more than its parts (RFC 2045 §6.4). */
function asSevenBit(fields: string): string {
  return fields.replace(/^(content-transfer-encoding[ \t]*:[ \t]*)(?:8bit|binary)[ \t]*(?=\r\n(?![ \t]))/gim, '$17bit');
}
