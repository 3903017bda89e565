/**
 * A message is in a Maildir when it has its name in `new/` and that is synced; before it is in `tmp/`, where no reader
 * looks.
 */
import { randomBytes } from 'node:crypto';
import { join, resolve } from 'node:path';
import { type EntryId, entryTime } from '@postern/core';
import { DirectorySync, type Disk, makeDurableDirectory, nodeDisk, unlinkIfThere } from './durable.ts';

/** Puts messages into a Maildir, durably. */
export interface MaildirWriter {
  /**
   * Resolves to the file's name in `new/` when it is durable. CRLF becomes LF, as mail readers expect there. What is
   * delivered again under the same `id` takes the place of the first, while that is in `new/`.
   */
  deliver(message: AsyncIterable<Uint8Array>, id: EntryId): Promise<string>;
  close(): Promise<void>;
}

/**
 * Opens (and makes) a Maildir for writing. `hostname` becomes part of the names; slashes and colons in it are replaced.
 */
export async function maildirWriter(o: { dir: string; hostname: string; disk?: Disk }): Promise<MaildirWriter> {
  const disk = o.disk ?? nodeDisk;
  const dir = resolve(o.dir);
  for (const name of ['tmp', 'new', 'cur']) await makeDurableDirectory(disk, join(dir, name));
  const sync = new DirectorySync(disk, join(dir, 'new'));
  const host = o.hostname.replaceAll('/', '\\057').replaceAll(':', '\\072');
  return {
    async deliver(message, id) {
      const name = `${Math.floor(entryTime(id) / 1000)}.${id}.${host}`;
      const draft = join(dir, 'tmp', `${name}.${randomBytes(6).toString('hex')}`);
      const fd = await disk.create(draft);
      try {
        let position = 0;
        for await (const chunk of lfOnly(message)) {
          await disk.write(fd, chunk, position);
          position += chunk.length;
        }
        await disk.sync(fd);
      } catch (error) {
        await unlinkIfThere(disk, draft).catch(() => {});
        throw error;
      } finally {
        await disk.close(fd);
      }
      await disk.rename(draft, join(dir, 'new', name));
      await sync.sync();
      return name;
    },
    close: () => sync.close(),
  };
}

async function* lfOnly(message: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let heldCr = false;
  for await (const chunk of message) {
    const text: string = (heldCr ? '\r' : '') + Buffer.from(chunk).toString('latin1');
    heldCr = text.endsWith('\r');
    yield Buffer.from((heldCr ? text.slice(0, -1) : text).replaceAll('\r\n', '\n'), 'latin1');
  }
  if (heldCr) yield Buffer.from('\r');
}
