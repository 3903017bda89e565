/**
 * What can go wrong with a gate.
 * - `program_missing`: a program is not installed and cannot be fetched here; `fix` is the line to type.
 * - `fetch_failed`: the package manager could not resolve, download or unpack.
 * - `start_failed`: a server ended, or could not be started, before it was ready; the message carries the end of its log.
 * - `stopped`: the gate was used after `stop()`.
 * - `bad_option`: an option that cannot work (the message says why).
 */
export type GateErrorCode = 'program_missing' | 'fetch_failed' | 'start_failed' | 'stopped' | 'bad_option';

/** The one error this package throws. */
export class GateError extends Error {
  override readonly name = 'GateError';
  readonly code: GateErrorCode;
  /** A command line that would repair it, where one is known. */
  readonly fix: string | undefined;

  constructor(code: GateErrorCode, message: string, o: { cause?: unknown; fix?: string } = {}) {
    super(message, o.cause === undefined ? undefined : { cause: o.cause });
    this.code = code;
    this.fix = o.fix;
  }
}
