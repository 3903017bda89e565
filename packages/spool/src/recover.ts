/**
 * What an earlier process left is found again as it stands: a message counts when it is whole, a journal up to its
 * last good line.
 */
import { closeSync, fstatSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type EntryId, isEntryId, Ledger } from '@postern/core';
import { type Disk, errno, unlinkIfThere } from './durable.ts';
import type { OnSpoolEvent } from './event.ts';
import { readHeader, type StoredHeader } from './format.ts';
import { parseJournal } from './journal.ts';
import { liveness, ownMark } from './process.ts';

/** Entries looked at before other work gets its turn. */
const BATCH = 256;
/**
 * First read of an entry's file: enough for a handful of recipients, and for all of a small message, whose length is
 * known then.
 */
const FIRST_READ = 8192;
/** Age at which a draft goes whoever wrote it, milliseconds (as in a Maildir). */
const DRAFT_AGE_MS = 36 * 3600 * 1000;

/** Name of an entry's journal. */
export function journalName(id: EntryId): string {
  return `${id}.log`;
}

/** What is kept in memory of one entry. */
export interface Slot {
  readonly id: EntryId;
  readonly size: number;
  readonly arrived: number;
  readonly eightBit: boolean;
  readonly longLines: boolean;
  readonly envelopeJson: string;
  /** Undefined while nothing was recorded. */
  journal: Journal | undefined;
}

/** What is kept in memory of a journal. */
export interface Journal {
  readonly ledger: Ledger;
  /** Where the next line goes. */
  length: number;
  /** Bytes of a torn line follow; they are cut away first. */
  torn: boolean;
}

/** What a look at one file of the queue gave. */
export type Found =
  | { readonly type: 'slot'; readonly slot: Slot; readonly damagedLine?: number }
  | { readonly type: 'gone' }
  | { readonly type: 'newer'; readonly version: number }
  | { readonly type: 'corrupt'; readonly reason: string };

/** A slot from a header that is known. */
export function slotOf(id: EntryId, header: StoredHeader): Slot {
  const { size, arrived, eightBit, longLines, envelopeJson } = header;
  return { id, size, arrived, eightBit, longLines, envelopeJson, journal: undefined };
}

/** Reads the header of an open file. `buffer` is scratch space. */
export function headerOf(fd: number, buffer: Buffer): ReturnType<typeof readHeader> {
  return headerIn(fd, buffer, readSync(fd, buffer, 0, buffer.length, 0));
}

/** The header when `length` octets of the file are in `buffer`. */
function headerIn(fd: number, buffer: Buffer, length: number): ReturnType<typeof readHeader> {
  let bytes = buffer.subarray(0, length);
  let read = readHeader(bytes);
  if (read.type === 'short' && bytes.length === buffer.length) {
    const larger = Buffer.alloc(read.need);
    bytes = larger.subarray(0, readSync(fd, larger, 0, larger.length, 0));
    read = readHeader(bytes);
  }
  return read.type === 'short' ? { type: 'bad', reason: 'it is cut short' } : read;
}

function lookAt(queue: string, id: EntryId, hasJournal: boolean, buffer: Buffer): Found {
  let fd: number;
  try {
    fd = openSync(`${queue}/${id}`, 'r');
  } catch (error) {
    if (errno(error) === 'ENOENT') return { type: 'gone' };
    throw error;
  }
  try {
    const start = readSync(fd, buffer, 0, buffer.length, 0);
    const read = headerIn(fd, buffer, start);
    if (read.type === 'newer') return read;
    if (read.type !== 'header')
      return { type: 'corrupt', reason: read.type === 'bad' ? read.reason : 'it is cut short' };
    const { header } = read;
    const length = start < buffer.length ? start : fstatSync(fd).size;
    if (length !== header.headerLength + header.size) {
      return { type: 'corrupt', reason: `it has ${length} octets instead of ${header.headerLength + header.size}` };
    }
    const slot = slotOf(id, header);
    if (!hasJournal) return { type: 'slot', slot };
    return { type: 'slot', slot, ...readJournal(queue, slot) };
  } finally {
    closeSync(fd);
  }
}

function readJournal(queue: string, slot: Slot): { damagedLine?: number } {
  let bytes: Buffer;
  try {
    bytes = readFileSync(join(queue, journalName(slot.id)));
  } catch (error) {
    if (errno(error) === 'ENOENT') return {};
    throw error;
  }
  const { records, length, damaged } = parseJournal(bytes);
  const ledger = new Ledger();
  for (const [at, record] of records.entries()) {
    if (at === damaged?.at) ledger.apply(damageHold(damaged.line));
    ledger.apply(record);
  }
  ledger.closeAttempts();
  slot.journal = { ledger, length, torn: bytes.length > length };
  return damaged === undefined || !ledger.held ? {} : { damagedLine: damaged.line };
}

/** A record may be missing, so nothing is tried until a person has looked; a release after the damage ends the hold. */
function damageHold(line: number): { type: 'hold'; at: number; reason: string } {
  return { type: 'hold', at: 0, reason: `its journal is damaged at line ${line}; release it to try again` };
}

/** Looks at one entry that has just appeared. */
export function lookAtArrival(queue: string, id: EntryId): Found {
  return lookAt(queue, id, false, Buffer.alloc(FIRST_READ));
}

/**
 * Reads the headers and journals of a whole queue, oldest first; the event loop gets its turn in between. Calls back
 * instead of being iterated: a promise for each of 100,000 entries would cost more than reading them.
 */
export async function scanQueue(
  queue: string,
  disk: Disk,
  o: { skip?: (id: EntryId) => boolean; onFound: (id: EntryId, found: Found) => Promise<void> | undefined },
): Promise<void> {
  const ids: EntryId[] = [];
  const journals = new Set<string>();
  for (const name of readdirSync(queue)) {
    if (isEntryId(name)) ids.push(name);
    else if (name.endsWith('.log')) journals.add(name.slice(0, -4));
  }
  ids.sort();
  const buffer = Buffer.alloc(FIRST_READ);
  for (const [at, id] of ids.entries()) {
    if (at % BATCH === BATCH - 1) await new Promise<void>((resolve) => setImmediate(resolve));
    const hasJournal = journals.delete(id);
    if (o.skip?.(id)) continue;
    const pending = o.onFound(id, lookAt(queue, id, hasJournal, buffer));
    if (pending !== undefined) await pending;
  }
  for (const id of journals) {
    // Its message is gone: it was complete, and only this part of the removal was left.
    if (isEntryId(id) && o.skip?.(id) !== true) await unlinkIfThere(disk, join(queue, journalName(id)));
  }
}

/** Removes drafts whose writer is dead: their senders were never told 250. */
export async function sweepDrafts(tmp: string, disk: Disk, onEvent: OnSpoolEvent): Promise<void> {
  const { boot, space } = ownMark();
  for (const name of readdirSync(tmp)) {
    const path = join(tmp, name);
    const [, pid, start, writerSpace] = name.split('.');
    const local = writerSpace !== undefined && writerSpace === (space || '0');
    const mark = { pid: Number(pid), start: start === '0' ? '' : (start ?? ''), boot, space };
    let old: boolean;
    try {
      old = Date.now() - statSync(path).mtimeMs > DRAFT_AGE_MS;
    } catch {
      continue;
    }
    if (!old && !(local && liveness(mark) === 'dead')) continue;
    await unlinkIfThere(disk, path);
    onEvent({ type: 'swept', name });
  }
}
