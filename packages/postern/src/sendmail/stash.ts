/** Keeps a message between two readings: in memory while it is small, else in a file that nobody else can open and that goes with it. */
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Octets kept in memory. */
const IN_MEMORY: number = 1024 * 1024;

/** A message that is written once and then read. */
export class Stash implements AsyncDisposable {
  #chunks: Buffer[] = [];
  #size = 0;
  #dir: string | undefined;
  #file: FileHandle | undefined;

  /** Rejects with the system's error when the file cannot be written. */
  async write(chunk: Uint8Array): Promise<void> {
    this.#chunks.push(Buffer.from(chunk));
    this.#size += chunk.length;
    if (this.#size <= IN_MEMORY && this.#file === undefined) return;
    this.#dir ??= await mkdtemp(join(tmpdir(), 'postern-sendmail-'));
    this.#file ??= await open(join(this.#dir, 'message'), 'wx+', 0o600);
    await this.#file.writev(this.#chunks);
    this.#chunks = [];
  }

  /** What was written, from its start. */
  async *read(): AsyncGenerator<Buffer> {
    if (this.#file === undefined) yield* this.#chunks;
    else yield* this.#file.createReadStream({ start: 0, autoClose: false }) as AsyncIterable<Buffer>;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file?.close();
    if (this.#dir !== undefined) await rm(this.#dir, { recursive: true, force: true });
  }
}
