/** What is undefined is left out: optional properties are absent, never present and undefined. */

/** The properties of `value` that are not undefined, for spreading into an object with optional properties. */
export function defined<T extends object>(value: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, property]) => property !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
