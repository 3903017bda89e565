/** Reading a journal takes no lock and changes nothing, whoever owns the spool. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type EntryId, type JournalRecord, SpoolError } from '@postern/core';
import { parseJournal } from './journal.ts';
import { journalName } from './recover.ts';

/**
 * The journal of an entry, for people: read as it lies there, whoever owns the spool; none when nothing has happened
 * yet. Rejects with `io`.
 */
export async function readJournal(o: {
  readonly dir: string;
  readonly id: EntryId;
}): Promise<readonly JournalRecord[]> {
  try {
    return parseJournal(await readFile(join(o.dir, 'queue', journalName(o.id)))).records;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new SpoolError(`the journal of ${o.id} cannot be read`, { code: 'io', cause });
  }
}
