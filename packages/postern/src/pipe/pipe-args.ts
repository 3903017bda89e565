import { quoteAll } from '@postern/core';
import type { Want } from './ask.ts';

/**
 * The words behind `postern pipe`. Read here and not with the other commands' options, because what follows HOST is the far side's, dashes
 * and all, and because `--` changes its meaning.
 */
export type PipeCall =
  | {
      readonly type: 'pipe';
      readonly host: string;
      readonly want: Want;
      readonly config?: string;
      readonly json: boolean;
    }
  | { readonly type: 'help' }
  | { readonly type: 'error'; readonly message: string; readonly json: boolean };

/** What a pipe runs where nothing is named, as with ssh: a login shell that reads its standard input. */
export const LOGIN_SHELL: Want = { type: 'target', target: { type: 'exec', command: 'exec "$SHELL" -l' } };

interface Globals {
  config?: string;
  json: boolean;
}

/** Reads the global options at the start of `words`; undefined when `--config` lacks its file. */
function takeGlobals(words: readonly string[], into: Globals): readonly string[] | undefined {
  for (let at = 0; at < words.length; at++) {
    const word = words[at] as string;
    if (word === '--json') into.json = true;
    else if (word.startsWith('--config=')) into.config = word.slice('--config='.length);
    else if (word === '--config') {
      const file = words[++at];
      if (file === undefined) return undefined;
      into.config = file;
    } else return words.slice(at);
  }
  return [];
}

/** The words behind `pipe` with the global options before it, when `argv` is a `postern pipe`. */
export function pipeWords(argv: readonly string[]): readonly string[] | undefined {
  const globals: Globals = { json: false };
  const rest = takeGlobals(argv, globals);
  if (rest?.[0] !== 'pipe') return undefined;
  return [...argv.slice(0, argv.length - rest.length), ...rest.slice(1)];
}

/** Reads the words behind `postern pipe`. Never throws. */
export function parsePipeArgs(words: readonly string[]): PipeCall {
  const globals: Globals = { json: false };
  const error = (message: string): PipeCall => ({ type: 'error', message, json: globals.json });
  const call = (host: string, want: Want): PipeCall => ({ type: 'pipe', host, want, ...globals });
  const [host, ...rest] = takeGlobals(words, globals) ?? [];
  if (host === '--help' || host === '-h') return { type: 'help' };
  if (host === undefined) return error('pipe needs a HOST');
  if (host.startsWith('-')) return error(`unknown option ${host}`);

  const far = takeGlobals(rest, globals);
  if (far === undefined) return error('--config needs a file');
  const [first, ...others] = far;
  if (first === undefined) return call(host, LOGIN_SHELL);
  if (first === '--') {
    if (others.length === 0) return error('-- needs a command behind it');
    return call(host, { type: 'target', target: { type: 'exec', command: quoteAll(others) } });
  }
  if ((first === 'imap' || first === 'smtp') && takeGlobals(others, { json: false })?.length === 0) {
    takeGlobals(others, globals);
    return call(host, { type: first });
  }
  return call(host, { type: 'target', target: { type: 'exec', command: far.join(' ') } });
}
