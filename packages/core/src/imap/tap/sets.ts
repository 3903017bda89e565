/** Sets of message numbers and UIDs as IMAP writes them (RFC 3501 §9 `sequence-set`). */

/** Ranges as written; an end of `Infinity` is `*`. */
export type SequenceSet = readonly (readonly [number, number])[];

const SET = /^(?:\d+|\*)(?::(?:\d+|\*))?(?:,(?:\d+|\*)(?::(?:\d+|\*))?)*$/;

/** Reads a set; undefined when it is none (`$` for one). */
export function parseSet(text: string): SequenceSet | undefined {
  if (!SET.test(text)) return undefined;
  return text.split(',').map((part) => {
    const [a = '', b = a] = part.split(':');
    const [low, high] = [a, b].map((end) => (end === '*' ? Number.POSITIVE_INFINITY : Number(end))) as [number, number];
    return low <= high ? [low, high] : [high, low];
  });
}

/** Whether a set names a value, where `last` is what `*` means: `n:*` names the last also when it is below n (RFC 3501 §6.4.8). */
export function setHas(set: SequenceSet, value: number, last: number): boolean {
  return set.some(([from, to]) => {
    const low = Math.min(from, to === Number.POSITIVE_INFINITY ? last : from);
    const high = to === Number.POSITIVE_INFINITY ? Math.max(last, from === to ? last : from) : to;
    return value >= low && value <= high;
  });
}

/** Writes ascending values as a set; empty for none. */
export function formatSet(values: Iterable<number>): string {
  const parts: string[] = [];
  let low = 0;
  let high = -1;
  const end = (): void => {
    if (high > 0) parts.push(low === high ? String(low) : `${low}:${high}`);
  };
  for (const value of values) {
    if (value === high + 1 && high > 0) {
      high = value;
      continue;
    }
    end();
    low = value;
    high = value;
  }
  end();
  return parts.join(',');
}

/** The values of a set with no `*`, in its order; undefined when there are more than `most`. */
export function expandSet(set: SequenceSet, most: number): number[] | undefined {
  const values: number[] = [];
  for (const [from, to] of set) {
    if (to - from >= most - values.length) return undefined;
    for (let value = from; value <= to; value++) values.push(value);
  }
  return values;
}
