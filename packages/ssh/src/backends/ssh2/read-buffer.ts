/** A socket is read into memory that was given back; what nobody gave back is left alone. */
import type { OnReadOpts, Socket } from 'node:net';

/** Read at once from a socket, bytes: while what is read is kept, and while it is not and there is more. */
const READ_BYTES = 64 * 1024;
const LONG_READ_BYTES = 256 * 1024;

/**
 * The memory a socket reads into: the same for read after read as long as nobody keeps what came. Node by itself takes new memory for every
 * read, and V8 (11.3) may collect its whole heap for every 15 MB of that: half of what a bulk transfer costs.
 */
export class ReadBuffer {
  /** What `net.connect` takes. */
  readonly onread: OnReadOpts;
  #bytes: Buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  #socket: Socket | undefined;
  /** Bytes lent of the present read. */
  #lent = 0;
  /** Whether the bytes of a read are kept by somebody who does not lend them. */
  #keeps: (memory: ArrayBufferLike) => boolean = () => true;

  constructor() {
    this.onread = { buffer: () => this.#bytes, callback: (length) => this.#onRead(length) };
  }

  /** Feeds what is read into `socket` as data; at once after `connect`. */
  feed(socket: Socket): void {
    this.#socket = socket;
  }

  /** From now on `keeps` is asked after every read whether anything of it is kept beside what was lent. */
  watch(keeps: (memory: ArrayBufferLike) => boolean): void {
    this.#keeps = keeps;
  }

  /** Something of the present read is handed to somebody who may keep it. */
  lend(bytes: Buffer): void {
    if (bytes.buffer === this.#bytes.buffer) this.#lent += bytes.length;
  }

  /** What was lent is needed no more; counts only within the same read. */
  release(bytes: Buffer): void {
    if (bytes.buffer === this.#bytes.buffer) this.#lent -= bytes.length;
  }

  #onRead(length: number): boolean {
    const socket = this.#socket;
    if (socket === undefined) return true;
    const bytes = this.#bytes.subarray(0, length);
    // A few bytes should not hold a whole buffer.
    if (length < READ_BYTES / 2) return socket.push(Buffer.from(bytes));
    this.#lent = 0;
    const more = socket.push(bytes);
    if (this.#lent > 0 || socket.readableLength > 0 || this.#keeps(bytes.buffer)) {
      this.#bytes = Buffer.allocUnsafeSlow(READ_BYTES);
    } else if (length === READ_BYTES) {
      this.#bytes = Buffer.allocUnsafeSlow(LONG_READ_BYTES);
    }
    return more;
  }
}
