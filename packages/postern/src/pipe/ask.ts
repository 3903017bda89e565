import type { Target } from '@postern/core';
import { PosternError } from '../errors.ts';

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
