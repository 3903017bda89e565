/** What a client knows of a selected mailbox, by message number: UID and flags, at most 8 octets for a message. */

/** Flags the client was never told. */
const UNTOLD = 0;
/** Flags of which the client thinks something it was not told (`STORE … .SILENT`). */
const DOUBTFUL = 1;
const SLACK = 16;

/** Message number to UID, ascending. Behind `known`, messages are there whose UIDs are not known yet. */
export class View {
  #uids: Uint32Array = new Uint32Array(0);
  #told: Uint32Array | undefined;
  #count = 0;
  #known = 0;

  /** How many messages the client has been told of. */
  get count(): number {
    return this.#count;
  }

  /** How many of them, from the first on, have a UID here. */
  get known(): number {
    return this.#known;
  }

  /** The highest UID known; 0 when there is none. */
  get lastUid(): number {
    return this.#known === 0 ? 0 : (this.#uids[this.#known - 1] as number);
  }

  /** The UID of message `n`; 0 when it is not known. */
  uid(n: number): number {
    return n >= 1 && n <= this.#known ? (this.#uids[n - 1] as number) : 0;
  }

  /** The message of a UID; 0 when there is none known. */
  find(uid: number): number {
    let low = 0;
    let high = this.#known - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const there = this.#uids[middle] as number;
      if (there === uid) return middle + 1;
      if (there < uid) low = middle + 1;
      else high = middle - 1;
    }
    return 0;
  }

  /** There are `count` messages now. It never shrinks by this (RFC 3501 §7.3.1). */
  exists(count: number): void {
    this.#count = Math.max(count, this.#count);
  }

  /** Message `n` is gone, and those behind it move up. */
  expunge(n: number): void {
    if (n < 1 || n > this.#count) return;
    this.#count--;
    if (n > this.#known) return;
    this.#uids.copyWithin(n - 1, n, this.#known);
    this.#told?.copyWithin(n - 1, n, this.#known);
    this.#known--;
  }

  /** Names the messages without UID, from `known + 1` on. False, and nothing done, when they do not ascend or are too many. */
  name(uids: readonly number[]): boolean {
    let before = this.lastUid;
    for (const uid of uids) {
      if (uid <= before || uid > 0xffffffff) return false;
      before = uid;
    }
    if (this.#known + uids.length > this.#count) return false;
    this.#reserve(this.#known + uids.length);
    this.#uids.set(uids, this.#known);
    this.#known += uids.length;
    return true;
  }

  /** The client has been told the flags of message `n`. */
  tell(n: number, flags: string): void {
    if (n < 1 || n > this.#known) return;
    this.#told ??= new Uint32Array(this.#uids.length);
    this.#told[n - 1] = flagsHash(flags);
  }

  /** The client thinks something of the flags of message `n` that it was not told. */
  doubt(n: number): void {
    if (this.#told !== undefined && n >= 1 && n <= this.#known) this.#told[n - 1] = DOUBTFUL;
  }

  /** Whether these flags of message `n` are news to somebody who was told others. */
  isNews(n: number, flags: string): boolean {
    const told = n <= this.#known ? (this.#told?.[n - 1] ?? UNTOLD) : UNTOLD;
    return told !== UNTOLD && told !== flagsHash(flags);
  }

  #reserve(size: number): void {
    if (size <= this.#uids.length) return;
    const room = this.#known === 0 ? size + SLACK : Math.ceil(size * 1.125) + SLACK;
    this.#uids = grown(this.#uids, room);
    if (this.#told !== undefined) this.#told = grown(this.#told, room);
  }
}

function grown(from: Uint32Array, room: number): Uint32Array {
  const to = new Uint32Array(room);
  to.set(from);
  return to;
}

/** Of a list of flags in any order, in any case; `\Recent` belongs to a session and is left out. FNV-1a, never 0 or 1. */
export function flagsHash(flags: string): number {
  const list = flags.toLowerCase().split(' ');
  const text = list
    .filter((flag) => flag !== '' && flag !== '\\recent')
    .sort()
    .join(' ');
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193) >>> 0;
  return hash < 2 ? hash + 2 : hash;
}
