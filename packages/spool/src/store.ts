/**
 * An entry is accepted when its file and the directory are synced; a sync that failed ends all writing until the spool
 * is opened again.
 */
import { isAscii } from 'node:buffer';
import { createHash } from 'node:crypto';
import { join, resolve } from 'node:path';
import {
  type AcceptOptions,
  type EntryId,
  type Env,
  type Envelope,
  isEntryId,
  newEntryId,
  raceAbort,
  SpoolError,
} from '@postern/core';
import {
  DirectorySync,
  type Disk,
  errno,
  isFull,
  makeDurableDirectory,
  syncUpwards,
  unlinkIfThere,
} from './durable.ts';
import type { OnSpoolEvent } from './event.ts';
import { envelopeLines, LINE_ONE, lineOne, type StoredHeader } from './format.ts';
import { ownMark } from './process.ts';

/** Message octets gathered before they are written. */
const WRITE_BYTES = 128 * 1024;
/** How long a look at the free space holds, milliseconds. */
const SPACE_MS = 250;
/** Message octets written between two looks at the free space. */
const SPACE_STEP = 8 * 1024 * 1024;
/** Free space kept for journals and bounces, octets, when nothing else is said. */
export const KEEP_FREE_BYTES: number = 16 * 1024 * 1024;

/** How an entry is put into a spool directory, the same for its owner and for other writers. */
export interface StoreOptions {
  /** The spool's directory; made when missing, mode 0700. */
  readonly dir: string;
  readonly env: Env;
  readonly disk: Disk;
  readonly onEvent: OnSpoolEvent;
  readonly keepFreeBytes: number;
  /** The entry gets its place in the queue: called just before the rename. */
  onPlacing(id: EntryId): void;
  /** It is durable, before accept() resolves; or it is not, and was taken away again. */
  onPlaced(id: EntryId, header: StoredHeader | undefined): void;
}

/** The directory of a spool, open for writing. */
export class Store {
  readonly dir: string;
  readonly tmp: string;
  readonly queue: string;
  readonly corrupt: string;
  readonly queueSync: DirectorySync;
  readonly #o: StoreOptions;
  readonly #tag: string;
  #fault: SpoolError | undefined;
  #closed = false;
  #space: { at: number; free: number } | undefined;
  #lowTold = false;
  readonly #underWay = new Set<Promise<unknown>>();

  constructor(o: StoreOptions) {
    this.#o = o;
    this.dir = resolve(o.dir);
    this.tmp = join(this.dir, 'tmp');
    this.queue = join(this.dir, 'queue');
    this.corrupt = join(this.dir, 'corrupt');
    this.queueSync = new DirectorySync(o.disk, this.queue);
    const mark = ownMark();
    this.#tag = `${mark.pid}.${mark.start || 0}.${mark.space || 0}`;
  }

  /** Makes the directories and everything above them durable. */
  async prepare(): Promise<void> {
    for (const path of [this.tmp, this.queue, this.corrupt]) await makeDurableDirectory(this.#o.disk, path);
    await syncUpwards(this.#o.disk, this.dir);
  }

  /** Throws when nothing may be written. */
  check(): void {
    if (this.#closed) throw new SpoolError('the spool is closed', { code: 'closed' });
    if (this.#fault !== undefined) throw this.#fault;
  }

  /** A sync failed: nothing is written until the spool is opened again, and everybody hears why. */
  fault(what: string, cause: unknown): SpoolError {
    const why = errno(cause) || String(cause);
    const message = `${what} could not be synced to disk (${why}); the spool takes nothing more`;
    return this.stop(new SpoolError(message, { code: 'io', cause }));
  }

  /** Nothing is written until the spool is opened again. Gives the first reason there was. */
  stop(error: SpoolError): SpoolError {
    if (this.#fault === undefined) {
      this.#fault = error;
      this.#o.onEvent({ type: 'fault', error });
    }
    return this.#fault;
  }

  /** Runs what close() must wait for. */
  track<T>(work: Promise<T>): Promise<T> {
    this.#underWay.add(work);
    const done = (): void => void this.#underWay.delete(work);
    work.then(done, done);
    return work;
  }

  accept(envelope: Envelope, message: AsyncIterable<Uint8Array>, o: AcceptOptions): Promise<EntryId> {
    return this.track(this.#accept(envelope, message, o));
  }

  async #accept(envelope: Envelope, message: AsyncIterable<Uint8Array>, o: AcceptOptions): Promise<EntryId> {
    this.check();
    const { disk } = this.#o;
    const id = o.id ?? newEntryId(this.#o.env);
    // It names a file.
    if (!isEntryId(id)) throw new RangeError(`${JSON.stringify(id)} is no entry id`);
    const draft = join(this.tmp, `${id}.${this.#tag}`);
    const place = join(this.queue, id);
    let header: StoredHeader;
    try {
      await this.room(0);
      const fd = await disk.create(draft);
      try {
        header = await this.#write(fd, envelope, message, o);
        await this.#syncFile(fd);
      } finally {
        await disk.close(fd);
      }
      this.check();
      this.#o.onPlacing(id);
      await disk.rename(draft, place);
    } catch (error) {
      this.#o.onPlaced(id, undefined);
      await unlinkIfThere(disk, draft).catch(() => {});
      throw acceptError(error, o.signal);
    }
    try {
      await this.queueSync.sync();
    } catch (error) {
      await unlinkIfThere(disk, place).catch(() => {});
      this.#o.onPlaced(id, undefined);
      throw this.fault(this.queue, error);
    }
    this.#o.onPlaced(id, header);
    return id;
  }

  async #syncFile(fd: number): Promise<void> {
    try {
      await this.#o.disk.sync(fd);
    } catch (error) {
      // A full disk shows here too (delayed allocation); the file is thrown away, so nothing unsynced is left behind.
      throw isFull(error) ? error : this.fault('a message', error);
    }
  }

  async #write(
    fd: number,
    envelope: Envelope,
    message: AsyncIterable<Uint8Array>,
    { signal, longLines }: AcceptOptions,
  ): Promise<StoredHeader> {
    const { disk, env } = this.#o;
    const lines = envelopeLines(envelope);
    const headerLength = LINE_ONE + lines.length;
    const arrived = env.wallNow();
    const hash = createHash('sha256');
    let size = 0;
    let eightBit = envelope.body === '8BITMIME';
    let pending: Uint8Array[] = [Buffer.alloc(LINE_ONE), lines];
    let pendingBytes = headerLength;
    let written = 0;
    let checkedAt = 0;
    let scratch: Buffer | undefined;
    const flush = async (): Promise<void> => {
      // One buffer for the whole message: fresh ones would pile up until the collector runs.
      scratch ??= Buffer.allocUnsafe(Math.max(pendingBytes, Math.min(2 * pendingBytes, 2 * WRITE_BYTES)));
      if (pendingBytes > scratch.length) scratch = Buffer.allocUnsafe(pendingBytes);
      let filled = 0;
      for (const part of pending) {
        scratch.set(part, filled);
        filled += part.length;
      }
      await disk.write(fd, scratch.subarray(0, filled), written);
      written += filled;
      pending = [];
      pendingBytes = 0;
    };
    for await (const chunk of guarded(message, signal)) {
      hash.update(chunk);
      size += chunk.length;
      eightBit ||= !isAscii(chunk);
      pending.push(chunk);
      pendingBytes += chunk.length;
      if (pendingBytes >= WRITE_BYTES) await flush();
      if (written - checkedAt >= SPACE_STEP) {
        checkedAt = written;
        await this.room(0);
      }
    }
    const header = { size, arrived, sha256: hash.digest('hex'), eightBit, longLines: longLines?.() === true };
    const first = lineOne(header, lines);
    const whole = written === 0;
    if (whole) pending[0] = first;
    await flush();
    if (!whole) await disk.write(fd, first, 0);
    return { ...header, headerLength, envelopeJson: lines.toString('utf8', 0, lines.length - 2) };
  }

  /** Rejects with `no-space` unless `bytes` more may be written and room for outcomes is left. */
  async room(bytes: number): Promise<void> {
    const { disk, env, keepFreeBytes, onEvent } = this.#o;
    const now = env.monotonicNow();
    if (this.#space === undefined || now - this.#space.at >= SPACE_MS || now < this.#space.at) {
      this.#space = { at: now, free: await disk.freeBytes(this.dir) };
    }
    const { free } = this.#space;
    if (free - bytes >= keepFreeBytes) {
      this.#lowTold = false;
      return;
    }
    if (!this.#lowTold) onEvent({ type: 'low-space', free, wanted: keepFreeBytes + bytes });
    this.#lowTold = true;
    throw new SpoolError(`only ${free} octets are free for the spool ${this.dir}`, { code: 'no-space' });
  }

  /** Waits for what is under way; nothing can be written after. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#underWay);
    await this.queueSync.close();
  }
}

/** An error of the message's source, kept apart from the disk's. */
class SourceError {
  readonly error: unknown;
  constructor(error: unknown) {
    this.error = error;
  }
}

function acceptError(error: unknown, signal: AbortSignal | undefined): unknown {
  if (error instanceof SpoolError) return error;
  if (error instanceof SourceError) {
    if (!signal?.aborted) return error.error;
    return new SpoolError('the message was not finished', { code: 'aborted', cause: error.error });
  }
  if (isFull(error)) return new SpoolError('the disk is full', { code: 'no-space', cause: error });
  return new SpoolError(`the message could not be written (${errno(error) || String(error)})`, {
    code: 'io',
    cause: error,
  });
}

/**
 * Ends as soon as the signal aborts, even while the source is silent; what the source throws comes as a {@link
 * SourceError}.
 */
async function* guarded(source: AsyncIterable<Uint8Array>, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]();
  const next = async (): Promise<IteratorResult<Uint8Array>> => {
    try {
      return await (signal === undefined ? iterator.next() : raceAbort(iterator.next(), signal));
    } catch (error) {
      throw new SourceError(error);
    }
  };
  let finished = false;
  try {
    while (true) {
      const result = await next();
      finished = result.done === true;
      if (result.done) return;
      yield result.value;
    }
  } finally {
    // Not awaited: a source that is silent would keep us here.
    if (!finished) void Promise.resolve(iterator.return?.()).catch(() => {});
  }
}
