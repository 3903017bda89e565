/**
 * What waits at a destination: ready, in the order it became so, or deferred, in a heap by time. Items are never looked
 * for in either: one that was dropped, taken or put elsewhere is passed over when its turn comes.
 */
import type { EntryId } from '@postern/core';
import { createHeap, type Heap } from './heap.ts';

/** What a {@link Backlog} needs to know of an item. */
export interface Waiter {
  readonly id: EntryId;
  /** Monotonic ms at which it is due; 0: now. */
  due: number;
  /** A courier has it. */
  busy: boolean;
}

/** Items ready or deferred, and every one by its name. */
export class Backlog<T extends Waiter> {
  readonly items: Map<EntryId, T> = new Map();
  #ready: T[] = [];
  #head = 0;
  #deferred: Heap<T> = createHeap();

  /** Puts a new item in, ready. */
  add(item: T): void {
    this.items.set(item.id, item);
    this.ready(item);
  }

  /** Puts an item back: at the end of what is ready. */
  ready(item: T): void {
    item.due = 0;
    item.busy = false;
    this.#ready.push(item);
  }

  /** Puts an item back until `due`, monotonic ms. */
  defer(item: T, due: number): void {
    item.due = due;
    item.busy = false;
    this.#deferred.push(due, item);
  }

  drop(item: T): void {
    if (this.has(item)) this.items.delete(item.id);
  }

  has(item: T): boolean {
    return this.items.get(item.id) === item;
  }

  /** Makes one deferred item ready. */
  hasten(id: EntryId): void {
    const item = this.items.get(id);
    if (item !== undefined && !item.busy && item.due !== 0) this.ready(item);
  }

  /** Makes ready what is due at `now`, or all. */
  promote(now: number = Number.POSITIVE_INFINITY): void {
    for (let due = this.#deferred.peek(); due !== undefined && due <= now; due = this.#deferred.peek()) {
      const item = this.#deferred.pop();
      if (item !== undefined && item.due === due && !item.busy && this.has(item)) this.ready(item);
    }
  }

  /** Monotonic ms at which the next deferred item is due, or what was in its place. */
  get nextDue(): number | undefined {
    return this.#deferred.peek();
  }

  /** The next ready item. */
  peek(): T | undefined {
    for (; this.#head < this.#ready.length; this.#head++) {
      const item = this.#ready[this.#head];
      if (item !== undefined && !item.busy && item.due === 0 && this.has(item)) return item;
    }
    this.#ready = [];
    this.#head = 0;
    return undefined;
  }

  /** Takes the next ready item: it is busy now. */
  take(): T | undefined {
    const item = this.peek();
    if (item === undefined) return undefined;
    item.busy = true;
    if (++this.#head > 1024 && this.#head * 2 > this.#ready.length) {
      this.#ready = this.#ready.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }
}
