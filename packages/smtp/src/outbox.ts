/** Octets leave in the order they were queued, and nothing passes a barrier before its promise is kept. */
import type { Writable } from 'node:stream';

/** How many octets may wait in an outbox before {@link Outbox.room} makes its writer wait. */
export const OUTBOX_OCTETS = 262_144;
/** Largest single write. */
const WRITE_OCTETS = 65_536;

type Item =
  | { readonly type: 'bytes'; readonly bytes: Uint8Array }
  | { readonly type: 'barrier'; readonly open: Promise<void>; readonly passed: () => void };

/**
 * What is to be written, in order: bytes, and barriers that hold back what is behind them until a promise resolves. So a message can be
 * prepared while the record that must precede its last byte becomes durable. Small pieces leave in one write.
 */
export class Outbox implements Disposable {
  #stream: Writable;
  readonly #o: { onProgress: () => void; onError: (error: unknown) => void };
  #items: Item[] = [];
  #octets = 0;
  #total = 0;
  #pumping = false;
  #kick: NodeJS.Immediate | undefined;
  #disposed = false;
  #blocked = false;
  #waiters: (() => void)[] = [];

  constructor(stream: Writable, o: { onProgress: () => void; onError: (error: unknown) => void }) {
    this.#stream = stream;
    this.#o = o;
  }

  /** True while the stream takes nothing. */
  get blocked(): boolean {
    return this.#blocked;
  }

  /** Octets pushed since it was made. */
  get total(): number {
    return this.#total;
  }

  push(bytes: Uint8Array): void {
    if (bytes.length === 0 || this.#disposed) return;
    this.#total += bytes.length;
    this.#items.push({ type: 'bytes', bytes });
    this.#octets += bytes.length;
    if (this.#octets >= WRITE_OCTETS) this.flush();
    else this.#kick ??= setImmediate(() => this.flush());
  }

  /** Holds back what is pushed after it until `open` resolves, then calls `passed` just before that is written. A rejection is an error. */
  barrier(open: Promise<void>, passed: () => void): void {
    open.catch(() => {});
    this.#items.push({ type: 'barrier', open, passed });
  }

  /** Starts to write what is queued. */
  flush(): void {
    clearImmediate(this.#kick);
    this.#kick = undefined;
    if (!this.#pumping) void this.#pump();
  }

  /** Resolves when fewer than `octets` are queued, or the outbox is disposed. */
  async room(octets: number = OUTBOX_OCTETS): Promise<void> {
    while (!this.#disposed && this.#octets >= octets) await this.#change();
  }

  /** Resolves when everything is handed to the stream, or the outbox is disposed. */
  async empty(): Promise<void> {
    this.flush();
    while (!this.#disposed && (this.#items.length > 0 || this.#pumping)) await this.#change();
  }

  /** Goes on with another stream: TLS over the first. Only when empty. */
  attach(stream: Writable): void {
    this.#stream = stream;
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    clearImmediate(this.#kick);
    this.#items = [];
    this.#wake();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  #wake(): void {
    for (const waiter of this.#waiters.splice(0)) waiter();
  }

  async #pump(): Promise<void> {
    this.#pumping = true;
    try {
      for (let item = this.#items[0]; item !== undefined && !this.#disposed; item = this.#items[0]) {
        if (item.type === 'barrier') {
          await item.open;
          if (this.#disposed) return;
          this.#items.shift();
          item.passed();
          continue;
        }
        const bytes = this.#take();
        const flowing = this.#stream.write(bytes);
        this.#o.onProgress();
        if (!flowing) await this.#drained();
        this.#octets -= bytes.length;
        this.#wake();
      }
    } catch (error) {
      this.#o.onError(error);
    } finally {
      this.#pumping = false;
      this.#wake();
    }
  }

  #take(): Uint8Array {
    const parts: Uint8Array[] = [];
    let octets = 0;
    for (let item = this.#items[0]; item?.type === 'bytes' && octets < WRITE_OCTETS; item = this.#items[0]) {
      parts.push(item.bytes);
      octets += item.bytes.length;
      this.#items.shift();
    }
    return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
  }

  /** Also resolves when the stream closes: its error is told elsewhere. */
  async #drained(): Promise<void> {
    if (this.#stream.destroyed) return;
    this.#blocked = true;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.#stream.off('drain', done).off('close', done);
        resolve();
      };
      this.#stream.on('drain', done).on('close', done);
    });
    this.#blocked = false;
    this.#o.onProgress();
  }
}
