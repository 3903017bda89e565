/** A Maildir is filled from a seed, and read as the octets that lie in it. */
import { readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Account } from './account.ts';
import { giveTo, makeOwned } from './files.ts';
import { makeMessage, type SeedMessage } from './message.ts';

/** Makes an empty Maildir (`cur`, `new`, `tmp`) that belongs to the account. */
export async function makeMaildir(path: string, account: Account): Promise<void> {
  for (const dir of [path, join(path, 'cur'), join(path, 'new'), join(path, 'tmp')]) {
    await makeOwned(account, dir);
  }
}

/**
 * Puts `count` made-up messages into a Maildir, seen in its `cur`, oldest first; the same seed gives the same bytes. Returns
 * them in order: over IMAP message n of the folder is element n-1, and `BODY[]` is exactly its `bytes`.
 */
export async function seedMaildir(
  path: string,
  o: { count: number; seed?: number; first?: number; account: Account },
): Promise<SeedMessage[]> {
  const messages: SeedMessage[] = [];
  for (let index = o.first ?? 0; index < (o.first ?? 0) + o.count; index += 1) {
    const message = makeMessage(index, o.seed ?? 1);
    const seconds = Math.floor(message.date.getTime() / 1000);
    // Dovecot numbers new files in the order of their names' leading numbers.
    const file = join(path, 'cur', `${seconds}.M${String(index).padStart(6, '0')}P1.gate:2,${message.flags}`);
    await writeFile(file, message.bytes.toString('latin1').replaceAll('\r\n', '\n'), 'latin1');
    await utimes(file, seconds, seconds);
    await giveTo(o.account, file);
    messages.push(message);
  }
  return messages;
}

/** The messages in `new` and `cur` of a Maildir as they lie there, oldest delivery first. */
export async function readMaildir(path: string): Promise<Buffer[]> {
  const found: { name: string; file: string }[] = [];
  for (const dir of ['new', 'cur']) {
    for (const name of await readdir(join(path, dir))) found.push({ name, file: join(path, dir, name) });
  }
  found.sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
  return Promise.all(found.map(({ file }) => readFile(file)));
}
