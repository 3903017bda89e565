/**
 * A spool without a disk: it keeps its promises for as long as the process lives, and can be made to break them one by
 * one.
 */
import { isAscii } from 'node:buffer';
import { type EntryId, isEntryId, newEntryId } from '../entry.ts';
import { type Env, raceAbort } from '../env.ts';
import type { Envelope } from '../envelope.ts';
import { Ledger } from '../ledger.ts';
import { type AcceptOptions, type EntryState, type JournalRecord, type Spool, SpoolError } from '../spool.ts';

/**
 * Options of a memory spool. The hooks stand where a disk would be: what they reject with, the caller gets; while they
 * hang, nothing is kept.
 */
export interface MemorySpoolOptions {
  readonly env: Pick<Env, 'wallNow' | 'random'>;
  /** A spool whose process died: what it had kept is here again, and what it was about to keep never comes. */
  readonly after?: MemorySpool;
  readonly beforeAccept?: (id: EntryId) => Promise<void>;
  readonly beforeRecord?: (id: EntryId, records: readonly JournalRecord[]) => Promise<void>;
}

/** A {@link Spool} in memory. */
export interface MemorySpool extends Spool {
  /** Damages the bytes of an entry: it is gone as soon as somebody reads them, with `corrupt`. */
  damage(id: EntryId): void;
}

interface Kept {
  readonly base: Pick<EntryState, 'id' | 'size' | 'arrived' | 'envelope'>;
  readonly message: Buffer;
  readonly records: JournalRecord[];
  readonly ledger: Ledger;
  damaged: boolean;
}

/** Makes a spool in memory. */
export function memorySpool(o: MemorySpoolOptions): MemorySpool {
  return new InMemory(o);
}

class InMemory implements MemorySpool {
  readonly #o: MemorySpoolOptions;
  readonly #kept = new Map<EntryId, Kept>();
  readonly #listeners = new Set<(state: EntryState) => void>();
  readonly #underWay = new Set<Promise<unknown>>();
  readonly #tails = new Map<EntryId, Promise<void>>();
  #end: 'closed' | 'dead' | undefined;

  constructor(o: MemorySpoolOptions) {
    this.#o = o;
    if (!(o.after instanceof InMemory)) return;
    o.after.#end = 'dead';
    for (const [id, kept] of [...o.after.#kept].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
      const ledger = new Ledger();
      for (const record of kept.records) ledger.apply(record);
      ledger.closeAttempts();
      this.#kept.set(id, { ...kept, records: [...kept.records], ledger });
    }
  }

  accept(envelope: Envelope, message: AsyncIterable<Uint8Array>, o: AcceptOptions = {}): Promise<EntryId> {
    return this.#track(this.#accept(envelope, message, o));
  }

  async #accept(
    envelope: Envelope,
    source: AsyncIterable<Uint8Array>,
    { signal, id = newEntryId(this.#o.env), longLines }: AcceptOptions,
  ): Promise<EntryId> {
    this.#check();
    if (!isEntryId(id)) throw new RangeError(`${JSON.stringify(id)} is no entry id`);
    const arrived = this.#o.env.wallNow();
    const message = await bytesOf(source, signal);
    await this.#o.beforeAccept?.(id);
    await this.#alive();
    const body: Envelope['body'] = isAscii(message) ? envelope.body : '8BITMIME';
    const long = longLines?.() === true ? { longLines: true as const } : {};
    const base = { id, size: message.length, arrived, envelope: { ...structuredClone(envelope), body, ...long } };
    this.#kept.set(id, { base, message, records: [], ledger: new Ledger(), damaged: false });
    const state = this.get(id);
    if (state !== undefined) for (const listener of this.#listeners) listener(state);
    return id;
  }

  *entries(): Iterable<EntryState> {
    for (const { base, ledger } of this.#kept.values()) yield ledger.state(base);
  }

  get(id: EntryId): EntryState | undefined {
    const kept = this.#kept.get(id);
    return kept?.ledger.state(kept.base);
  }

  async *read(id: EntryId): AsyncIterable<Uint8Array> {
    const kept = this.#kept.get(id);
    if (kept === undefined) throw gone(id);
    if (kept.damaged) {
      this.#kept.delete(id);
      throw new SpoolError(`the bytes of ${id} are not what was accepted`, { code: 'corrupt' });
    }
    yield kept.message;
  }

  record(id: EntryId, ...records: readonly JournalRecord[]): Promise<void> {
    return this.#inTurn(id, async () => {
      if (!this.#kept.has(id)) throw gone(id);
      await this.#o.beforeRecord?.(id, records);
      await this.#alive();
      const kept = this.#kept.get(id);
      if (kept === undefined) throw gone(id);
      kept.records.push(...records);
      for (const record of records) kept.ledger.apply(record);
    });
  }

  remove(id: EntryId): Promise<void> {
    return this.#inTurn(id, async () => {
      await this.#alive();
      this.#kept.delete(id);
    });
  }

  /** What is done to one entry is done in the order it was asked for. */
  #inTurn(id: EntryId, work: () => Promise<void>): Promise<void> {
    const done = (this.#tails.get(id) ?? Promise.resolve()).then(() => {
      this.#check();
      return work();
    });
    const tail = done
      .catch(() => {})
      .then(() => {
        if (this.#tails.get(id) === tail) this.#tails.delete(id);
      });
    this.#tails.set(id, tail);
    return this.#track(done);
  }

  onArrival(listener: (state: EntryState) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  damage(id: EntryId): void {
    const kept = this.#kept.get(id);
    if (kept !== undefined) kept.damaged = true;
  }

  async close(): Promise<void> {
    this.#end ??= 'closed';
    await Promise.allSettled(this.#underWay);
  }

  #check(): void {
    if (this.#end === 'closed') throw new SpoolError('the spool is closed', { code: 'closed' });
  }

  /** A dead process does nothing more, and says nothing. */
  async #alive(): Promise<void> {
    if (this.#end === 'dead') await new Promise<never>(() => {});
  }

  #track<T>(work: Promise<T>): Promise<T> {
    this.#underWay.add(work);
    const done = (): void => void this.#underWay.delete(work);
    work.then(done, done);
    return work;
  }
}

function gone(id: EntryId): SpoolError {
  return new SpoolError(`there is no entry ${id}`, { code: 'gone' });
}

/** All of a message; ends as soon as the signal aborts, even while the source is silent. */
async function bytesOf(source: AsyncIterable<Uint8Array>, signal: AbortSignal | undefined): Promise<Buffer> {
  const iterator = source[Symbol.asyncIterator]();
  const chunks: Uint8Array[] = [];
  let finished = false;
  try {
    for (;;) {
      const result = await (signal === undefined ? iterator.next() : raceAbort(iterator.next(), signal));
      finished = result.done === true;
      if (result.done) return Buffer.concat(chunks);
      // A copy: whoever gave it may use its memory again.
      chunks.push(Buffer.from(result.value));
    }
  } catch (error) {
    if (!signal?.aborted) throw error;
    throw new SpoolError('the message was not finished', { code: 'aborted', cause: error });
  } finally {
    // Not awaited: a source that is silent would keep us here.
    if (!finished) void Promise.resolve(iterator.return?.()).catch(() => {});
  }
}
