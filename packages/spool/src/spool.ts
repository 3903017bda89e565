/**
 * The spool as its one owner has it: what is in memory is what the disk has, and nothing is told before it is there.
 */
import { type FSWatcher, watch } from 'node:fs';
import { join } from 'node:path';
import {
  type AcceptOptions,
  type EntryId,
  type EntryState,
  type Env,
  type Envelope,
  isEntryId,
  type JournalRecord,
  Ledger,
  type Spool,
  SpoolError,
  type SpoolWriter,
  untouched,
} from '@postern/core';
import { type Disk, errno, isFull, nodeDisk, unlinkIfThere } from './durable.ts';
import type { OnSpoolEvent } from './event.ts';
import { storedEnvelope } from './format.ts';
import { journalLine } from './journal.ts';
import { type Ownership, takeOwnership } from './lock.ts';
import { readBody } from './read.ts';
import {
  type Found,
  type Journal,
  journalName,
  lookAtArrival,
  type Slot,
  scanQueue,
  slotOf,
  sweepDrafts,
} from './recover.ts';
import { KEEP_FREE_BYTES, Store } from './store.ts';

/** How often the queue is looked over for entries no notice came of, milliseconds. */
const RESCAN_MS = 60_000;
/** Octets set aside, to be given up when a journal finds the disk full. */
const RESERVE_BYTES = 1024 * 1024;

/** Options of a spool. */
export interface SpoolOptions {
  /** The spool's directory; made when missing, mode 0700. */
  readonly dir: string;
  readonly env: Env;
  readonly onEvent?: OnSpoolEvent;
  /** Free space below which nothing is accepted, octets. */
  readonly keepFreeBytes?: number;
  /** How files reach the disk; another one only to test durability. */
  readonly disk?: Disk;
}

/**
 * A writer for a spool that another process may own: `sendmail`, a script. Takes no lock. The owner sees what it
 * writes; without an owner it waits in the queue for one. Rejects with `SpoolError` `io` or `no-space` when the
 * directory cannot be used.
 */
export async function spoolWriter(o: SpoolOptions): Promise<SpoolWriter & { close(): Promise<void> }> {
  const store = new Store({ ...defaults(o), onPlacing() {}, onPlaced() {} });
  await store.prepare().catch((error: unknown) => {
    throw unusable(o.dir, error);
  });
  return {
    accept: (envelope, message, options = {}) => store.accept(envelope, message, options),
    close: () => store.close(),
  };
}

function defaults(o: SpoolOptions): {
  dir: string;
  env: Env;
  disk: Disk;
  onEvent: OnSpoolEvent;
  keepFreeBytes: number;
} {
  return {
    dir: o.dir,
    env: o.env,
    disk: o.disk ?? nodeDisk,
    onEvent: o.onEvent ?? (() => {}),
    keepFreeBytes: o.keepFreeBytes ?? KEEP_FREE_BYTES,
  };
}

/**
 * Opens a spool as its one owner: takes over from a dead owner, sweeps what dead writers left, reads headers, lengths
 * and journals. Rejects with `SpoolError` `busy` when a live process owns it, `io` or `no-space` when the directory
 * cannot be used.
 */
export async function openSpool(o: SpoolOptions): Promise<Spool> {
  const options = defaults(o);
  const owned = new OwnedSpool(options);
  await owned.open().catch((error: unknown) => {
    throw unusable(o.dir, error);
  });
  return owned;
}

/** A system's error about the directory as a `SpoolError`; any other as it is. */
function unusable(dir: string, error: unknown): unknown {
  if (error instanceof SpoolError || errno(error) === '') return error;
  const message = `the spool ${dir} cannot be used: ${(error as Error).message}`;
  return new SpoolError(message, { code: isFull(error) ? 'no-space' : 'io', cause: error });
}

interface Waiting {
  readonly records: readonly JournalRecord[];
  resolve(): void;
  reject(error: unknown): void;
}

class OwnedSpool implements Spool {
  readonly #o: ReturnType<typeof defaults>;
  readonly #store: Store;
  readonly #slots = new Map<EntryId, Slot>();
  readonly #placing = new Set<EntryId>();
  readonly #journals = new Map<EntryId, Waiting[]>();
  readonly #removals = new Map<EntryId, Promise<void>>();
  /** Entries of a later format, told of once. */
  readonly #newer = new Set<EntryId>();
  readonly #listeners = new Set<(state: EntryState) => void>();
  #ownership: Ownership | undefined;
  #watcher: FSWatcher | undefined;
  #rescan: Disposable | undefined;

  constructor(o: ReturnType<typeof defaults>) {
    this.#o = o;
    this.#store = new Store({
      ...o,
      onPlacing: (id) => void this.#placing.add(id),
      onPlaced: (id, header) => {
        this.#placing.delete(id);
        if (header !== undefined) this.#arrive(slotOf(id, header));
      },
    });
  }

  async open(): Promise<void> {
    const { disk, env, onEvent } = this.#o;
    const started = performance.now();
    await this.#store.prepare();
    const { dir } = this.#store;
    const onLost = (): void => {
      const error = new SpoolError(`another process has taken the spool ${dir} over`, { code: 'busy' });
      this.#store.stop(error);
    };
    this.#ownership = await takeOwnership(dir, { disk, env, onLost });
    try {
      if (this.#ownership.takenFrom !== undefined) onEvent({ type: 'taken-over', pid: this.#ownership.takenFrom });
      await sweepDrafts(this.#store.tmp, disk, onEvent);
      this.#watcher = watch(this.#store.queue, { persistent: false }, (_event, name) => this.#noticed(name));
      this.#watcher.on('error', () => {});
      await scanQueue(this.#store.queue, disk, { onFound: (id, found) => this.#take(id, found) });
      await this.#makeReserve();
    } catch (error) {
      await this.close();
      throw error;
    }
    this.#armRescan();
    onEvent({ type: 'opened', entries: this.#slots.size, milliseconds: performance.now() - started });
  }

  async #makeReserve(): Promise<void> {
    const { disk, keepFreeBytes } = this.#o;
    if ((await disk.freeBytes(this.#store.dir)) < keepFreeBytes) return;
    const fd = await disk.openForWrite(join(this.#store.dir, 'reserve'));
    try {
      await disk.write(fd, Buffer.alloc(RESERVE_BYTES), 0);
      await disk.sync(fd);
    } catch (error) {
      if (!isFull(error)) throw error;
    } finally {
      await disk.close(fd);
    }
  }

  #armRescan(): void {
    this.#rescan = this.#o.env.schedule(RESCAN_MS, () => {
      this.#noticed(null);
      this.#armRescan();
    });
  }

  /** A name in the queue changed, or (`null`) any may have. */
  #noticed(name: string | null): void {
    if (name !== null) {
      if (isEntryId(name) && !this.#isKnown(name))
        void this.#take(name, lookAtArrival(this.#store.queue, name))?.catch(() => {});
      return;
    }
    void this.#store.track(this.#look()).catch(() => {});
  }

  #look(): Promise<void> {
    return scanQueue(this.#store.queue, this.#o.disk, {
      skip: (id) => this.#isKnown(id),
      onFound: (id, found) => this.#take(id, found),
    });
  }

  #isKnown(id: EntryId): boolean {
    return this.#slots.has(id) || this.#placing.has(id) || this.#removals.has(id);
  }

  #take(id: EntryId, found: Found): Promise<void> | undefined {
    const { onEvent } = this.#o;
    if (found.type === 'corrupt') return this.#setAside(id, found.reason);
    if (found.type === 'newer' && !this.#newer.has(id)) {
      this.#newer.add(id);
      onEvent({ type: 'newer', id, version: found.version });
    }
    if (found.type !== 'slot') return undefined;
    if (found.damagedLine !== undefined) onEvent({ type: 'damaged-journal', id, line: found.damagedLine });
    this.#arrive(found.slot);
    return undefined;
  }

  #arrive(slot: Slot): void {
    if (this.#slots.has(slot.id)) return;
    this.#slots.set(slot.id, slot);
    if (this.#listeners.size === 0) return;
    const state = this.#state(slot);
    for (const listener of this.#listeners) listener(state);
  }

  /** Moves an entry's files to `corrupt/`. */
  async #setAside(id: EntryId, reason: string): Promise<void> {
    const { disk, onEvent } = this.#o;
    this.#slots.delete(id);
    for (const name of [id, journalName(id)]) {
      await disk.rename(join(this.#store.queue, name), join(this.#store.corrupt, name)).catch((error: unknown) => {
        if (errno(error) !== 'ENOENT') throw error;
      });
    }
    onEvent({ type: 'corrupt', id, reason, path: join(this.#store.corrupt, id) });
  }

  #state({ id, size, arrived, envelopeJson, eightBit, longLines, journal }: Slot): EntryState {
    const envelope = storedEnvelope({ envelopeJson, eightBit, longLines });
    return journal?.ledger.state({ id, size, arrived, envelope }) ?? untouched({ id, size, arrived, envelope });
  }

  async accept(envelope: Envelope, message: AsyncIterable<Uint8Array>, o: AcceptOptions = {}): Promise<EntryId> {
    return await this.#store.accept(envelope, message, o);
  }

  *entries(): Iterable<EntryState> {
    for (const slot of this.#slots.values()) yield this.#state(slot);
  }

  get(id: EntryId): EntryState | undefined {
    const slot = this.#slots.get(id);
    return slot === undefined ? undefined : this.#state(slot);
  }

  async *read(id: EntryId): AsyncIterable<Uint8Array> {
    if (!this.#slots.has(id)) throw gone(id);
    try {
      yield* readBody(join(this.#store.queue, id));
    } catch (error) {
      if (errno(error) === 'ENOENT') {
        this.#slots.delete(id);
        throw gone(id);
      }
      if (error instanceof SpoolError && error.code === 'corrupt') await this.#setAside(id, error.message);
      throw error;
    }
  }

  record(id: EntryId, ...records: readonly JournalRecord[]): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiting = { records, resolve, reject };
      const queue = this.#journals.get(id);
      if (queue !== undefined) return void queue.push(waiting);
      this.#journals.set(id, [waiting]);
      void this.#store.track(this.#drainJournal(id));
    });
  }

  /** Appends what waits for one journal, everything that gathered meanwhile in one write. */
  async #drainJournal(id: EntryId): Promise<void> {
    const queue = this.#journals.get(id) as Waiting[];
    while (queue.length > 0) {
      const group = queue.splice(0);
      const records = group.flatMap((waiting) => waiting.records);
      try {
        await this.#append(id, records);
        for (const waiting of group) waiting.resolve();
      } catch (error) {
        for (const waiting of group) waiting.reject(error);
      }
    }
    this.#journals.delete(id);
  }

  async #append(id: EntryId, records: readonly JournalRecord[]): Promise<void> {
    this.#store.check();
    const slot = this.#slots.get(id);
    if (slot === undefined || this.#removals.has(id)) throw gone(id);
    const bytes = Buffer.concat(records.map(journalLine));
    slot.journal ??= { ledger: new Ledger(), length: 0, torn: false };
    const { journal } = slot;
    try {
      await this.#appendBytes(id, journal, bytes);
    } catch (error) {
      if (!isFull(error)) throw error;
      await unlinkIfThere(this.#o.disk, join(this.#store.dir, 'reserve'));
      await this.#appendBytes(id, journal, bytes).catch((again: unknown) => {
        throw isFull(again) ? new SpoolError('the disk is full', { code: 'no-space', cause: again }) : again;
      });
    }
    for (const record of records) journal.ledger.apply(record);
  }

  async #appendBytes(id: EntryId, journal: Journal, bytes: Uint8Array): Promise<void> {
    const { disk } = this.#o;
    const fd = await disk.openForWrite(join(this.#store.queue, journalName(id)));
    const isNew = journal.length === 0;
    try {
      if (journal.torn) await disk.truncate(fd, journal.length);
      journal.torn = true;
      await disk.write(fd, bytes, journal.length);
      await disk.syncData(fd).catch((error: unknown) => {
        throw this.#store.fault('a journal', error);
      });
      journal.torn = false;
    } finally {
      await disk.close(fd);
    }
    if (isNew) {
      await this.#store.queueSync.sync().catch((error: unknown) => {
        throw this.#store.fault(this.#store.queue, error);
      });
    }
    journal.length += bytes.length;
  }

  remove(id: EntryId): Promise<void> {
    const running = this.#removals.get(id);
    if (running !== undefined) return running;
    if (!this.#slots.has(id)) return Promise.resolve();
    const removal = this.#remove(id).finally(() => this.#removals.delete(id));
    this.#removals.set(id, removal);
    return this.#store.track(removal);
  }

  /**
   * The message first, durably: a journal without a message is swept, a message without its journal would be sent
   * again.
   */
  async #remove(id: EntryId): Promise<void> {
    this.#store.check();
    const { disk } = this.#o;
    await unlinkIfThere(disk, join(this.#store.queue, id));
    await this.#store.queueSync.sync().catch((error: unknown) => {
      throw this.#store.fault(this.#store.queue, error);
    });
    const journal = this.#slots.get(id)?.journal;
    this.#slots.delete(id);
    if (journal !== undefined && (journal.length > 0 || journal.torn)) {
      await unlinkIfThere(disk, join(this.#store.queue, journalName(id)));
    }
  }

  onArrival(listener: (state: EntryState) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  async close(): Promise<void> {
    this.#rescan?.[Symbol.dispose]();
    this.#watcher?.close();
    await this.#store.close();
    const ownership = this.#ownership;
    this.#ownership = undefined;
    await ownership?.release();
  }
}

function gone(id: EntryId): SpoolError {
  return new SpoolError(`there is no entry ${id}`, { code: 'gone' });
}
