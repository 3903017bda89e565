/** Octets on their way out: slices that lie side by side in memory leave as one. */

/** Collects what goes one way. */
export class Out {
  #parts: Buffer[] = [];

  push(bytes: Buffer): void {
    if (bytes.length === 0) return;
    const before = this.#parts.at(-1);
    if (
      before !== undefined &&
      before.buffer === bytes.buffer &&
      before.byteOffset + before.length === bytes.byteOffset
    ) {
      this.#parts[this.#parts.length - 1] = Buffer.from(before.buffer, before.byteOffset, before.length + bytes.length);
    } else this.#parts.push(bytes);
  }

  say(text: string): void {
    this.push(Buffer.from(text, 'latin1'));
  }

  /** Gives up what was collected. */
  take(): Buffer[] {
    const parts = this.#parts;
    this.#parts = [];
    return parts;
  }
}
