/**
 * Format 1 of an entry's file, readable with `less`:
 *
 *     Postern-Spool: 1 crc=8hex header=8digits size=16digits arrived=16digits sha256=64hex body=7BIT____|8BITMIME|7BITLONG|8BITLONG LF
 *     {"from":"…","recipients":[…],…} LF
 *     LF
 *     the message, byte for byte
 *
 * Line 1 has a fixed width: it is written as a placeholder and patched before the sync, since size and digest are known
 * only when the last byte has come. `header` is the offset of the message, `crc` covers the whole header with its own
 * digits as zeros, `sha256` covers the message. The file's length is `header` + `size`. Nothing in it changes after the
 * rename.
 *
 * Whatever else a later format changes, its files begin with `Postern-Spool: N ` too: that is how this version knows to
 * leave them alone.
 */
import type { Envelope } from '@postern/core';
import { crc32 } from './crc.ts';

/** The version in the first line of what is written. */
export const FORMAT = 1;

/** Line 1 with its LF, octets. */
export const LINE_ONE: number = fixedLine({
  headerLength: 0,
  size: 0,
  arrived: 0,
  sha256: '0'.repeat(64),
  eightBit: false,
  longLines: false,
}).length;

/** What the header says of an entry, beside the envelope. */
export interface Header {
  /** Offset of the message in the file. */
  readonly headerLength: number;
  /** Octets of the message. */
  readonly size: number;
  /** Wall clock, ms. */
  readonly arrived: number;
  /** Digest of the message, hexadecimal. */
  readonly sha256: string;
  /** The message has octets above 127. */
  readonly eightBit: boolean;
  /** It has lines over 998 octets. */
  readonly longLines: boolean;
}

/** A header and the envelope as the JSON it was stored as. */
export interface StoredHeader extends Header {
  readonly envelopeJson: string;
}

function digits(value: number, width: number): string {
  return String(Math.floor(value)).padStart(width, '0');
}

function bodyWord({ eightBit, longLines }: Header): string {
  if (longLines) return eightBit ? '8BITLONG' : '7BITLONG';
  return eightBit ? '8BITMIME' : '7BIT____';
}

function fixedLine(header: Header, crc = '00000000'): Buffer {
  return Buffer.from(
    `Postern-Spool: ${FORMAT} crc=${crc} header=${digits(header.headerLength, 8)} size=${digits(header.size, 16)} ` +
      `arrived=${digits(header.arrived, 16)} sha256=${header.sha256} body=${bodyWord(header)}\n`,
    'latin1',
  );
}

/** Line 2 and the empty line. */
export function envelopeLines(envelope: Envelope): Buffer {
  return Buffer.from(`${JSON.stringify(envelope)}\n\n`);
}

/** Line 1, final. `lines` is what {@link envelopeLines} gave. */
export function lineOne(header: Omit<Header, 'headerLength'>, lines: Uint8Array): Buffer {
  const full = { ...header, headerLength: LINE_ONE + lines.length };
  return fixedLine(full, crc32(fixedLine(full), lines));
}

/** Where the checksum's digits are in line 1, and what stands for them while it is made. */
const CRC_AT = `Postern-Spool: ${FORMAT} crc=`.length;
const NO_CRC: Uint8Array = Buffer.from('00000000');
const LINE_PATTERN =
  /^Postern-Spool: 1 crc=([0-9a-f]{8}) header=(\d{8}) size=(\d{16}) arrived=(\d{16}) sha256=([0-9a-f]{64}) body=(7BIT____|8BITMIME|7BITLONG|8BITLONG)\n$/;

/** What a header's first bytes are. */
export type ReadHeader =
  | { readonly type: 'header'; readonly header: StoredHeader }
  /** More bytes are needed: this many from the start of the file. */
  | { readonly type: 'short'; readonly need: number }
  /** Written by a later version. */
  | { readonly type: 'newer'; readonly version: number }
  | { readonly type: 'bad'; readonly reason: string };

/** Largest header read, octets: about 400,000 recipients. */
export const MAX_HEADER: number = 32 * 1024 * 1024;

/** Reads a header from the first bytes of a file. */
export function readHeader(bytes: Buffer): ReadHeader {
  const first = bytes.toString('latin1', 0, LINE_ONE);
  const version = Number(/^Postern-Spool: (\d{1,6}) /.exec(first)?.[1] ?? 0);
  if (version > FORMAT) return { type: 'newer', version };
  if (bytes.length < LINE_ONE) return { type: 'short', need: LINE_ONE };
  const [, crc, length, size, arrived, sha256, body] = LINE_PATTERN.exec(first) ?? [];
  if (crc === undefined || sha256 === undefined) return { type: 'bad', reason: 'its first line is damaged' };
  const headerLength = Number(length);
  if (headerLength > MAX_HEADER || headerLength < LINE_ONE + 2)
    return { type: 'bad', reason: 'its header length is damaged' };
  if (bytes.length < headerLength) return { type: 'short', need: headerLength };
  const before = bytes.subarray(0, CRC_AT);
  const after = bytes.subarray(CRC_AT + NO_CRC.length, headerLength);
  if (crc32(before, NO_CRC, after) !== crc) return { type: 'bad', reason: 'its header does not match its checksum' };
  const header = {
    headerLength,
    size: Number(size),
    arrived: Number(arrived),
    sha256,
    eightBit: body?.startsWith('8BIT') === true,
    longLines: body?.endsWith('LONG') === true,
    envelopeJson: bytes.toString('utf8', LINE_ONE, headerLength - 2),
  };
  return { type: 'header', header };
}

/** The envelope of a stored header. */
export function storedEnvelope(header: Pick<StoredHeader, 'envelopeJson' | 'eightBit' | 'longLines'>): Envelope {
  const envelope = JSON.parse(header.envelopeJson) as Envelope;
  const body = header.eightBit && envelope.body !== '8BITMIME' ? { body: '8BITMIME' as const } : undefined;
  if (body === undefined && !header.longLines) return envelope;
  return { ...envelope, ...body, ...(header.longLines ? { longLines: true as const } : {}) };
}
