/** Work done at a stretch, milliseconds: what else the daemon does waits no longer. */
const STRETCH_MS = 5;

/** The same values; everything else gets its turn in between. */
export async function* inTurns<T>(values: Iterable<T>): AsyncGenerator<T> {
  let since = performance.now();
  for (const value of values) {
    if (performance.now() - since >= STRETCH_MS) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      since = performance.now();
    }
    yield value;
  }
}
