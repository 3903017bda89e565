/** What a client asks of a pipe: as parameters of the control socket, and as words of the command line. */
import type { Target } from '@postern/core';
import { quoteAll } from '@postern/core';
import { PosternError } from '../base/errors.ts';

/** What a client asks a pipe to. */
export type Want =
  /** A far imapd session, its PREAUTH greeting first; a spare one where there is one. */
  | { readonly type: 'imap' }
  /** The far SMTP as the host's configuration has it. */
  | { readonly type: 'smtp' }
  | { readonly type: 'target'; readonly target: Target };

/** What is asked of the daemon, and where there is none, of a link of one's own. */
export interface PipeAsk {
  readonly host: string;
  readonly user?: string;
  readonly port?: number;
  readonly want: Want;
  /** Options for `ssh -G` that shape the link; see `SshRun.linkArgs`. File names are absolute. */
  readonly sshArgs?: readonly string[];
  /** Absolute; as `ssh -F`. */
  readonly configFile?: string;
  /** How long a link that is down is waited for. */
  readonly timeoutSeconds?: number;
}

/** Reads the parameters of a `pipe` request. Throws `PosternError` `usage`. */
export function parseAsk(params: Record<string, unknown>): PipeAsk {
  const { host, user, port, want, sshArgs, configFile, timeoutSeconds } = params;
  const fits =
    typeof host === 'string' &&
    optional(user, 'string') &&
    optional(port, 'number') &&
    optional(configFile, 'string') &&
    optional(timeoutSeconds, 'number') &&
    (sshArgs === undefined || (Array.isArray(sshArgs) && sshArgs.every((word) => typeof word === 'string'))) &&
    isWant(want);
  if (!fits) throw new PosternError('usage', 'this is no request for a pipe');
  return params as unknown as PipeAsk;
}

function optional(value: unknown, type: 'string' | 'number'): boolean {
  return value === undefined || typeof value === type;
}

function isWant(value: unknown): value is Want {
  const { type, target } = Object(value) as { type?: unknown; target?: unknown };
  return type === 'imap' || type === 'smtp' || (type === 'target' && isTarget(target));
}

function isTarget(value: unknown): value is Target {
  const { type, command, host, port, path, name } = Object(value) as Record<string, unknown>;
  switch (type) {
    case 'exec':
      return typeof command === 'string';
    case 'tcp':
      return typeof host === 'string' && typeof port === 'number';
    case 'unix':
      return typeof path === 'string';
    case 'subsystem':
      return typeof name === 'string';
    default:
      return false;
  }
}

/** True when a channel to it ends without an exit status as a matter of course. */
export function endsPlainly(want: Want): boolean {
  return want.type !== 'target' || want.target.type === 'tcp' || want.target.type === 'unix';
}

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
