/** A fault that the system's ssh could do without is marked, so that `auto` tries that. */
import { LinkError } from '@postern/core';

const marked = new WeakSet<LinkError>();

/** Notes that the system's ssh could do what failed here: FIDO keys, certificates, algorithms ssh2 lacks. Gives the error back. */
export function markNeedsOpenssh(error: LinkError): LinkError {
  marked.add(error);
  return error;
}

/** Whether an error, or what caused it, was marked. */
export function wantsOpenssh(error: unknown): boolean {
  return error instanceof LinkError && (marked.has(error) || wantsOpenssh(error.cause));
}
