/**
 * An entry's journal: one record a line, `crc8hex SP JSON LF`, the checksum over the JSON. Lines are only ever
 * appended. A power cut may tear the tail off: the last line counts only with its LF and its checksum, and what follows
 * the last good line is cut away before the next append. A bad line with good ones after it is damage, which no power
 * cut makes.
 */
import { defined, type JournalRecord } from '@postern/core';
import { crc32 } from './crc.ts';

/** A record as a line of the journal. */
export function journalLine(record: JournalRecord): Buffer {
  const json = Buffer.from(JSON.stringify(record));
  return Buffer.concat([Buffer.from(`${crc32(json)} `), json, Buffer.from('\n')]);
}

/** What a journal's bytes say. */
export interface ParsedJournal {
  readonly records: readonly JournalRecord[];
  /** Octets up to the end of the last good line: where the next one goes. */
  readonly length: number;
  /** The first bad line that has a good one after it: its number, and the number of good records before it. */
  readonly damaged?: { readonly line: number; readonly at: number };
}

/** Reads a journal. */
export function parseJournal(bytes: Buffer): ParsedJournal {
  const records: JournalRecord[] = [];
  let length = 0;
  let bad: ParsedJournal['damaged'];
  let damaged: ParsedJournal['damaged'];
  let line = 0;
  for (let start = 0; start < bytes.length; ) {
    const end = bytes.indexOf(10, start);
    if (end < 0) break;
    line++;
    const record = parseLine(bytes.subarray(start, end));
    if (record === undefined) bad ??= { line, at: records.length };
    else {
      damaged ??= bad;
      records.push(record);
      length = end + 1;
    }
    start = end + 1;
  }
  return { records, length, ...defined({ damaged }) };
}

function parseLine(line: Buffer): JournalRecord | undefined {
  const json = line.subarray(9);
  if (line.length < 11 || line[8] !== 32 || line.toString('latin1', 0, 8) !== crc32(json)) return undefined;
  try {
    return JSON.parse(json.toString()) as JournalRecord;
  } catch {
    return undefined;
  }
}
