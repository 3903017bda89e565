/** A route's pattern is judged when the configuration is read, not when mail arrives. */
import { compileRoutes, RelayError } from '@postern/relay';

/** Throws `RangeError` unless `text` can stand in a route's `match` or `from`. */
export function checkRoutePattern(text: string): void {
  try {
    compileRoutes([{ match: [text], host: 'host' }]);
  } catch (error) {
    if (!(error instanceof RelayError)) throw error;
    throw new RangeError(error.message, { cause: error });
  }
}
