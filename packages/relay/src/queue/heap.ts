/** A heap of numbered values: what has the smallest number comes out first, whatever else there is. */

/** A binary heap: the smallest `key` first. */
export interface Heap<T> {
  readonly size: number;
  push(key: number, value: T): void;
  /** The smallest key; undefined when empty. */
  peek(): number | undefined;
  pop(): T | undefined;
}

/** Makes an empty {@link Heap}. */
export function createHeap<T>(): Heap<T> {
  const nodes: { key: number; value: T }[] = [];
  const key = (at: number): number => nodes[at]?.key ?? Number.POSITIVE_INFINITY;
  const swap = (a: number, b: number): void => {
    const node = nodes[a] as (typeof nodes)[number];
    nodes[a] = nodes[b] as (typeof nodes)[number];
    nodes[b] = node;
  };
  return {
    get size() {
      return nodes.length;
    },
    push(newKey, value) {
      let at = nodes.push({ key: newKey, value }) - 1;
      for (let up = (at - 1) >> 1; at > 0 && key(up) > key(at); up = (at - 1) >> 1) {
        swap(up, at);
        at = up;
      }
    },
    peek: () => nodes[0]?.key,
    pop() {
      const [first] = nodes;
      const last = nodes.pop();
      if (first === undefined || last === undefined) return undefined;
      if (nodes.length === 0) return first.value;
      nodes[0] = last;
      for (let at = 0; ; ) {
        const left = 2 * at + 1;
        const child = key(left + 1) < key(left) ? left + 1 : left;
        if (key(child) >= key(at)) break;
        swap(child, at);
        at = child;
      }
      return first.value;
    },
  };
}
