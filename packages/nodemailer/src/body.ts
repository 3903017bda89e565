/** A message at rest: checked, with CRLF line ends, in memory or in a file without a name. */
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { createLineEnds, createMessageChecker, describeFault, type MessageFacts } from '@postern/core';
import { aborted, TransportError } from './errors.ts';

/** Octets of a message kept in memory; a longer one goes to a file that has no name any more. */
export const MEMORY_OCTETS: number = 1024 * 1024;
const READ_OCTETS = 64 * 1024;

/** A message at rest: its length is known, and it can be read more than once. */
export interface Body extends AsyncDisposable {
  readonly facts: MessageFacts;
  open(): AsyncIterable<Uint8Array>;
}

/**
 * Reads a message to its end: line ends made CRLF, everything else checked. Rejects with {@link TransportError}
 * `message` when it may not travel, `aborted` when the signal aborts first, or with what the source rejects with.
 */
export async function collect(source: Readable, signal?: AbortSignal): Promise<Body> {
  const onAbort = (): void => void source.destroy(aborted(signal?.reason));
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted) onAbort();
  const checker = createMessageChecker();
  const ends = createLineEnds();
  const store = new Store();
  const take = async (bytes: Buffer): Promise<void> => {
    const fault = checker.push(bytes);
    if (fault !== undefined) throw new TransportError(describeFault(fault), { code: 'message' });
    await store.append(bytes);
  };
  try {
    for await (const chunk of source) await take(ends.push(chunk));
    await take(ends.finish());
    const end = checker.end();
    if (end.type === 'unfit') throw new TransportError(describeFault(end.fault), { code: 'message' });
    return {
      facts: end.facts,
      open: () => store.read(end.facts.size),
      [Symbol.asyncDispose]: () => store.close(),
    };
  } catch (error) {
    await store.close();
    throw error;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

/** Memory first, then an unlinked temporary file. */
class Store {
  #chunks: Buffer[] = [];
  #size = 0;
  #file: FileHandle | undefined;

  async append(bytes: Buffer): Promise<void> {
    if (this.#file === undefined && this.#size + bytes.length <= MEMORY_OCTETS) {
      this.#chunks.push(bytes);
    } else {
      this.#file ??= await this.#spill();
      await this.#file.appendFile(bytes);
    }
    this.#size += bytes.length;
  }

  async #spill(): Promise<FileHandle> {
    const file = await unnamedFile();
    for (const chunk of this.#chunks) await file.appendFile(chunk);
    this.#chunks = [];
    return file;
  }

  async *read(size: number): AsyncIterable<Uint8Array> {
    yield* this.#chunks;
    if (this.#file === undefined) return;
    for (let at = 0; at < size; ) {
      const { bytesRead, buffer } = await this.#file.read(Buffer.allocUnsafe(READ_OCTETS), 0, READ_OCTETS, at);
      if (bytesRead === 0) throw new TransportError('the temporary file was cut short', { code: 'message' });
      yield buffer.subarray(0, bytesRead);
      at += bytesRead;
    }
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    this.#chunks = [];
    await file?.close();
  }
}

async function unnamedFile(): Promise<FileHandle> {
  const dir = await mkdtemp(join(tmpdir(), 'postern-'));
  try {
    return await open(join(dir, 'message'), 'wx+', 0o600);
  } finally {
    await rm(dir, { recursive: true });
  }
}
