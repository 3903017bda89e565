/** Reads a header to its end, within a bound. */
import { PosternError } from '../base/errors.ts';

/** Octets a header may have. */
export const HEADER_OCTETS: number = 1024 * 1024;

/** One header field. */
export interface Field {
  /** Lower case. */
  readonly name: string;
  /** As given, folded, with its CRLFs. */
  readonly raw: Buffer;
}

/** Header and what of the body was seen with it. */
export interface Head {
  readonly fields: readonly Field[];
  /** The first body octets, without the empty line. */
  readonly body: Buffer;
}

const NAME = /^([\x21-\x39\x3b-\x7e]+)[ \t]*:/;
const CRLF: Buffer = Buffer.from('\r\n');

/**
 * Takes the header off the front of CRLF text. The header ends at the empty line, or before the first line that is no field (then
 * that line opens the body, as in `echo text | sendmail root`). A first line `From …` of an mbox is dropped.
 */
export interface HeadReader {
  /** The head as soon as it is whole; to be called no more after that. Throws {@link PosternError} `data` past {@link HEADER_OCTETS}. */
  push(chunk: Buffer): Head | undefined;
  /** The head of a text that ended. */
  finish(): Head;
}

/** Makes a {@link HeadReader}. */
export function headReader(): HeadReader {
  let pending: Buffer = Buffer.alloc(0);
  let size = 0;
  let first = true;
  const fields: { name: string; raw: Buffer[] }[] = [];
  const head = (body: Buffer): Head => ({
    fields: fields.map((field) => ({ name: field.name, raw: Buffer.concat(field.raw) })),
    body,
  });
  /** False when the line is not part of the header. */
  const take = (line: Buffer): boolean => {
    size += line.length;
    if (size > HEADER_OCTETS) {
      throw new PosternError('data', `the header is over ${HEADER_OCTETS} octets; nothing was sent`);
    }
    const last = fields.at(-1);
    if (last !== undefined && (line[0] === 0x20 || line[0] === 0x09)) {
      last.raw.push(line);
      return true;
    }
    const text = line.toString('latin1');
    if (first && text.startsWith('From ')) return true;
    const name = NAME.exec(text)?.[1];
    if (name === undefined) return false;
    fields.push({ name: name.toLowerCase(), raw: [line] });
    return true;
  };
  return {
    push(chunk) {
      pending = pending.length > 0 ? Buffer.concat([pending, chunk]) : chunk;
      let start = 0;
      for (let end = pending.indexOf(CRLF); end >= 0; end = pending.indexOf(CRLF, start)) {
        if (end === start) return head(pending.subarray(start + 2));
        const line = pending.subarray(start, end + 2);
        if (!take(line)) return head(pending.subarray(start));
        first = false;
        start = end + 2;
      }
      pending = pending.subarray(start);
      return undefined;
    },
    finish() {
      const line = Buffer.concat([pending, CRLF]);
      const rest = pending;
      pending = Buffer.alloc(0);
      return rest.length === 0 || take(line) ? head(Buffer.alloc(0)) : head(rest);
    },
  };
}

/** A field's value, unfolded (RFC 5322 §2.2.3), as UTF-8 where it is that. */
export function fieldValue(field: Field): string {
  const text = field.raw.toString('utf8');
  const decoded = text.includes('\ufffd') ? field.raw.toString('latin1') : text;
  return decoded
    .slice(decoded.indexOf(':') + 1)
    .replace(/\r\n(?=[ \t])/g, '')
    .trim();
}
