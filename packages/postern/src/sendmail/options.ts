/** What every part of `postern sendmail` is given. */
import type { Readable, Writable } from 'node:stream';
import type { Surroundings } from '../base/paths.ts';
import type { Context } from '../cli/context.ts';
import type { SendmailProgram } from './args.ts';

/** What a run is given. */
export interface SendmailOptions {
  readonly name: SendmailProgram;
  readonly words: readonly string[];
  readonly surroundings: Surroundings;
  readonly output: Context['output'];
  readonly stdin: Readable;
  readonly stdout: Writable;
  readonly version: string;
}
