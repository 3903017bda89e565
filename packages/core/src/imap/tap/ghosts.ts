/** Messages that are gone over there and that the client could not be told of yet: between its numbers and the far side's (RFC 3501 §7.4.1). */

/** A few message numbers of the client, ascending. */
export class Ghosts {
  #numbers: number[] = [];

  get size(): number {
    return this.#numbers.length;
  }

  /** Client numbers, ascending. */
  get numbers(): readonly number[] {
    return this.#numbers;
  }

  /** Whether the client's message `n` is gone. */
  has(n: number): boolean {
    return this.#numbers.includes(n);
  }

  /** The far side's number of the client's message `n`; 0 when it is gone. */
  toFar(n: number): number {
    let before = 0;
    for (const ghost of this.#numbers) {
      if (ghost === n) return 0;
      if (ghost > n) break;
      before++;
    }
    return n - before;
  }

  /** The client's number of the far side's message `n`. */
  toClient(n: number): number {
    let at = n;
    for (const ghost of this.#numbers) {
      if (ghost > at) break;
      at++;
    }
    return at;
  }

  /** The client's message `n` is gone. */
  add(n: number): void {
    if (this.has(n)) return;
    this.#numbers.push(n);
    this.#numbers.sort((a, b) => a - b);
  }

  /** The client was told that its message `n` is gone. */
  told(n: number): void {
    this.#numbers = this.#numbers.filter((ghost) => ghost !== n).map((ghost) => (ghost > n ? ghost - 1 : ghost));
  }

  /** All are told, or belong to a mailbox that is no longer selected. */
  clear(): void {
    this.#numbers = [];
  }
}
