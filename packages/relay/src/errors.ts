/** The errors of this package: each is one sentence a person can act on. */
import { SpoolError } from '@postern/core';

/** What can be wrong with what a relay was given. */
export type RelayErrorCode =
  | 'pattern' // a route's pattern cannot be used
  | 'route' // a route leads nowhere, or to two places
  | 'closed'; // used after close()

/** The one error this package makes. `message` is one sentence a person can act on. */
export class RelayError extends Error {
  override readonly name = 'RelayError';
  readonly code: RelayErrorCode;
  constructor(message: string, o: { code: RelayErrorCode; cause?: unknown }) {
    super(message, o.cause === undefined ? undefined : { cause: o.cause });
    this.code = o.code;
  }
}

/** The entry was removed meanwhile: nobody wants to hear of it. */
export function isGone(error: unknown): boolean {
  return error instanceof SpoolError && error.code === 'gone';
}
