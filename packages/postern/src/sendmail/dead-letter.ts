/** What sendmail was given and could not take is kept in ~/dead.letter, as an mbox that its caller alone can read. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { Stash } from './stash.ts';

/** Input that is still there after it was read: {@link read} gives it, {@link keep} appends it to the dead letters. */
export class KeptInput implements AsyncDisposable {
  readonly #input: Readable;
  readonly #stash = new Stash();
  #size = 0;

  constructor(input: Readable) {
    this.#input = input;
  }

  /** The input's chunks as they come; may be left before its end. */
  async *read(): AsyncGenerator<Buffer> {
    for await (const chunk of this.#input.iterator({ destroyOnReturn: false })) {
      const bytes = Buffer.from(chunk as Uint8Array);
      this.#size += bytes.length;
      await this.#stash.write(bytes);
      yield bytes;
    }
  }

  /**
   * Appends all of the input, its unread rest included, to `dead.letter` in `home`, and resolves with that path; with undefined when there was nothing.
   * Rejects with the system's error when it cannot be written; a link, or a file that is another user's, is not followed.
   */
  async keep(o: { home: string; uid: number; sender: string; at: Date }): Promise<string | undefined> {
    if (!(this.#input as Readable & { isTTY?: boolean }).isTTY && !this.#input.destroyed) {
      for await (const _ of this.read());
    }
    if (this.#size === 0) return undefined;
    const path = join(o.home, 'dead.letter');
    const { O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK, O_WRONLY } = constants;
    const file = await open(path, O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_WRONLY, 0o600);
    try {
      const { uid, nlink, mode } = await file.stat();
      if ((mode & constants.S_IFMT) !== constants.S_IFREG || uid !== o.uid || nlink !== 1) {
        throw new Error(`${path} is no plain file of this user`);
      }
      for await (const chunk of mboxEntry(o.sender, o.at, this.#stash.read())) await file.writeFile(chunk);
      await file.sync();
    } finally {
      await file.close();
    }
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stash[Symbol.asyncDispose]();
  }
}

/** A message as an mbox holds it (RFC 4155): lines that begin with `From ` behind any number of `>` get one more. */
export async function* mboxEntry(sender: string, at: Date, message: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  // Wed, 21 Oct 2026 07:28:00 GMT
  const [day = '', date = '', month = '', year = '', time = ''] = at.toUTCString().replace(',', '').split(' ');
  yield Buffer.from(`From ${sender.replace(/\s/g, '') || 'MAILER-DAEMON'} ${day} ${month} ${date} ${time} ${year}\n`);
  let line = Buffer.alloc(0);
  for await (const chunk of message) {
    const bytes = Buffer.concat([line, chunk]);
    const end = bytes.lastIndexOf(10) + 1;
    yield quoted(bytes.subarray(0, end));
    line = bytes.subarray(end);
  }
  yield quoted(line);
  yield Buffer.from(line.length > 0 ? '\n\n' : '\n');
}

/** Whole lines with those quoted that would begin an entry. */
function quoted(lines: Buffer): Buffer {
  return Buffer.from(lines.toString('latin1').replace(/^(?=>*From )/gm, '>'), 'latin1');
}
