/** ssh's own command line, read as OpenSSH reads it. */
import type { Target } from '@postern/core';
import { OPTION_MEANINGS, splitOption } from './options.ts';

/**
 * ssh's own command line (ssh(1) of OpenSSH 9.2), as values. Its grammar is BSD getopt run twice: options, destination,
 * options again, and from the next word on a command that is not looked into. A general parser of command lines
 * cannot express that (options after the destination, but not after the command), hence this small one. Pure: nothing is
 * read, printed or run here.
 */
export type SshCall =
  | SshRun
  /** `-G`: print the settings, connect to nothing. git asks so whether a program is an ssh. */
  | { readonly type: 'settings' }
  /** `-V`. */
  | { readonly type: 'version' }
  /** `-Q query`. */
  | { readonly type: 'query' }
  /** Not ssh's grammar, or something this cannot do. ssh ends with 255 then. */
  | { readonly type: 'error'; readonly message: string; readonly usage: boolean };

/** A command line that wants a channel. */
export interface SshRun {
  readonly type: 'run';
  readonly destination: SshDestination;
  /** Absent: a login shell that reads its standard input. */
  readonly target: Target | undefined;
  /** Options that ask for another link than the daemon may have, in the form `ssh -G` takes. */
  readonly linkArgs: readonly string[];
  /** `-F`. */
  readonly configFile?: string;
  /** `-n`: an empty standard input. */
  readonly emptyInput: boolean;
  /** `-q`: only the far side's own stderr. */
  readonly quiet: boolean;
  /** `-v`: tells which link is used. */
  readonly verbose: boolean;
  /** ConnectTimeout, seconds. */
  readonly timeoutSeconds?: number;
  /** What was asked for and is not given, for `-v`. */
  readonly notes: readonly string[];
  /** Said unless quiet. */
  readonly warnings: readonly string[];
}

/** Where to: the name as typed and what the options add. */
export interface SshDestination {
  readonly host: string;
  readonly user?: string;
  readonly port?: number;
}

interface Draft {
  host?: string;
  user?: string | undefined;
  port?: number | undefined;
  forward?: Target;
  linkArgs: string[];
  options: Set<string>;
  configFile?: string;
  subsystem: boolean;
  noCommand: boolean;
  emptyInput: boolean;
  quiet: boolean;
  verbose: boolean;
  timeoutSeconds?: number;
  special?: 'settings' | 'version' | 'query';
  notes: string[];
  warnings: string[];
}

class ArgumentError extends Error {
  readonly usage: boolean;
  constructor(message: string, usage = false) {
    super(message);
    this.usage = usage;
  }
}

type Flag = (draft: Draft) => void;
type Valued = (draft: Draft, value: string) => void;

const note =
  (text: string): Flag =>
  (draft) =>
    void draft.notes.push(text);
const nothing = (): void => {};
const refuse =
  (text: string): Flag & Valued =>
  () => {
    throw new ArgumentError(text);
  };
const FORWARD_HINT = 'is not given by a lent link; use [[forward]] or [[reverse]] in the configuration, or ssh itself';

/** Options without a value. */
const FLAGS: Readonly<Record<string, Flag>> = {
  1: refuse('protocol 1 is gone'),
  2: nothing,
  4: (draft) => addOption(draft, 'AddressFamily=inet'),
  6: (draft) => addOption(draft, 'AddressFamily=inet6'),
  A: note('the agent is not forwarded'),
  a: nothing,
  C: note('compression is as configured for the host'),
  f: refuse('-f: a lent channel does not go to the background; use the shell for that'),
  G: (draft) => {
    draft.special = 'settings';
  },
  g: note('-g: there are no forwards'),
  K: note('GSSAPI is used only as configured'),
  k: nothing,
  M: note('the daemon keeps the link'),
  N: (draft) => {
    draft.noCommand = true;
  },
  n: (draft) => {
    draft.emptyInput = true;
  },
  P: nothing,
  q: (draft) => {
    draft.quiet = true;
  },
  s: (draft) => {
    draft.subsystem = true;
  },
  T: nothing,
  t: (draft) => void draft.warnings.push('no terminal is given: a lent channel has none'),
  V: (draft) => {
    draft.special = 'version';
  },
  v: (draft) => {
    draft.verbose = true;
  },
  X: note('X11 is not forwarded'),
  x: nothing,
  Y: note('X11 is not forwarded'),
  y: nothing,
};

/** Options with a value. */
const VALUED: Readonly<Record<string, Valued>> = {
  B: (draft, value) => addOption(draft, `BindInterface=${value}`),
  b: (draft, value) => addOption(draft, `BindAddress=${value}`),
  c: note('the link chooses its own ciphers'),
  D: refuse(`-D ${FORWARD_HINT}`),
  E: note('messages go to standard error'),
  e: nothing,
  F: (draft, value) => {
    draft.configFile = value;
  },
  I: (draft, value) => addOption(draft, `PKCS11Provider=${value}`),
  i: (draft, value) => addOption(draft, `IdentityFile=${value}`),
  J: (draft, value) => addOption(draft, `ProxyJump=${value}`),
  L: refuse(`-L ${FORWARD_HINT}`),
  l: (draft, value) => {
    draft.user ??= value;
  },
  m: note('the link chooses its own MACs'),
  O: refuse('-O: there is no control master; see `postern status`'),
  o: addOption,
  p: (draft, value) => {
    draft.port ??= portOf(value);
  },
  Q: (draft) => {
    draft.special = 'query';
  },
  R: refuse(`-R ${FORWARD_HINT}`),
  S: note('-S: the link of the daemon is shared anyway'),
  W: (draft, value) => {
    draft.forward = forwardOf(value);
  },
  w: refuse('-w: no tunnel devices'),
};

/** Reads a command line, without the program's name. Never throws. */
export function parseSshArgs(argv: readonly string[]): SshCall {
  const draft: Draft = {
    linkArgs: [],
    options: new Set(),
    subsystem: false,
    noCommand: false,
    emptyInput: false,
    quiet: false,
    verbose: false,
    notes: [],
    warnings: [],
  };
  try {
    return finish(draft, readWords(argv, draft));
  } catch (error) {
    if (error instanceof ArgumentError) return { type: 'error', message: error.message, usage: error.usage };
    throw error;
  }
}

/** Options, destination, options; returns the command's words. */
function readWords(argv: readonly string[], draft: Draft): readonly string[] {
  const before = readOptions(argv, draft);
  const [destination, ...rest] = before.rest;
  if (destination === undefined) return [];
  readDestination(destination, draft);
  // After `--` nothing is an option any more, not even behind the destination.
  return before.terminated ? rest : readOptions(rest, draft).rest;
}

function readOptions(
  argv: readonly string[],
  draft: Draft,
): { readonly rest: readonly string[]; readonly terminated: boolean } {
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] as string;
    if (word === '--') return { rest: argv.slice(at + 1), terminated: true };
    if (!word.startsWith('-') || word === '-') return { rest: argv.slice(at), terminated: false };
    for (let index = 1; index < word.length; index++) {
      const letter = word.charAt(index);
      const valued = Object.hasOwn(VALUED, letter) ? VALUED[letter] : undefined;
      if (valued !== undefined) {
        const value = word.slice(index + 1) || argv[++at];
        if (value === undefined) throw new ArgumentError(`option requires an argument -- ${letter}`, true);
        valued(draft, value);
        break;
      }
      const flag = Object.hasOwn(FLAGS, letter) ? FLAGS[letter] : undefined;
      if (flag === undefined) throw new ArgumentError(`unknown option -- ${letter}`, true);
      flag(draft);
    }
  }
  return { rest: [], terminated: false };
}

/** `[user@]host` or `ssh://[user@]host[:port]`; what an option said before wins. */
function readDestination(text: string, draft: Draft): void {
  const uri = /^ssh:\/\/(?:([^@/]*)@)?(\[[^\]/]+\]|[^:/@]+)(?::(\d+))?\/?$/.exec(text);
  if (uri !== null) {
    draft.host = (uri[2] as string).replace(/^\[(.*)\]$/, '$1');
    if (uri[1]) draft.user ??= decodeURIComponent(uri[1].split(';')[0] as string);
    if (uri[3] !== undefined) draft.port ??= portOf(uri[3]);
    return;
  }
  if (text.startsWith('ssh://')) throw new ArgumentError(`not a destination: ${text}`, true);
  const at = text.lastIndexOf('@');
  if (at === 0) throw new ArgumentError(`not a destination: ${text}`, true);
  if (at > 0) draft.user ??= text.slice(0, at);
  draft.host = text.slice(at + 1);
}

function addOption(draft: Draft, text: string): void {
  const option = splitOption(text);
  if (option === undefined) throw new ArgumentError(`missing argument in -o ${text}`);
  const { keyword, value } = option;
  const meaning = OPTION_MEANINGS.get(keyword);
  const off = /^(no|none|0|false|off)$/i.test(value);
  // The first value counts, but for keys, of which there may be several (ssh_config(5)).
  const first = !draft.options.has(keyword);
  draft.options.add(keyword);
  if (meaning === undefined) throw new ArgumentError(`Bad configuration option: ${keyword}`);
  if (meaning === 'link') draft.linkArgs.push('-o', text);
  if (meaning === 'refused' && !off) throw new ArgumentError(`-o ${keyword} ${FORWARD_HINT}`);
  if (meaning === 'known' && first) applyKnown(draft, keyword, value, off);
  if (meaning !== 'ignored' || off) return;
  if (/^forward(agent|x11)$/.test(keyword)) draft.notes.push(`${keyword}: not forwarded`);
}

function applyKnown(draft: Draft, keyword: string, value: string, off: boolean): void {
  switch (keyword) {
    case 'user':
      draft.user ??= value;
      return;
    case 'port':
      draft.port ??= portOf(value);
      return;
    case 'connecttimeout':
      if (/^\d+$/.test(value) && Number(value) > 0) draft.timeoutSeconds = Number(value);
      return;
    case 'loglevel':
      if (/^(quiet|fatal|error)$/i.test(value)) draft.quiet = true;
      else if (/^(verbose|debug\d?)$/i.test(value)) draft.verbose = true;
      return;
    case 'stdinnull':
      if (!off) draft.emptyInput = true;
      return;
    case 'sessiontype':
      if (/^subsystem$/i.test(value)) draft.subsystem = true;
      else if (off) draft.noCommand = true;
      return;
    case 'requesttty':
      if (/^(yes|force)$/i.test(value)) FLAGS.t?.(draft);
      return;
    case 'remotecommand':
      if (!off) throw new ArgumentError('RemoteCommand: give the command on the command line');
      return;
    default:
      if (!off) throw new ArgumentError(`${keyword} is not possible here`);
  }
}

function finish(draft: Draft, command: readonly string[]): SshCall {
  if (draft.special !== undefined) return { type: draft.special };
  if (draft.host === undefined || draft.host === '') throw new ArgumentError('no destination', true);
  const { host, user, port, configFile, timeoutSeconds } = draft;
  return {
    type: 'run',
    destination: { host, ...(user === undefined ? {} : { user }), ...(port === undefined ? {} : { port }) },
    target: targetOf(draft, command),
    linkArgs: draft.linkArgs,
    ...(configFile === undefined ? {} : { configFile }),
    emptyInput: draft.emptyInput,
    quiet: draft.quiet,
    verbose: draft.verbose,
    ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }),
    notes: draft.notes,
    warnings: [...new Set(draft.warnings)],
  };
}

function targetOf(draft: Draft, command: readonly string[]): Target | undefined {
  const line = command.join(' ');
  if (draft.forward !== undefined) {
    if (command.length > 0) throw new ArgumentError('-W takes no command');
    return draft.forward;
  }
  if (draft.subsystem) {
    if (line === '') throw new ArgumentError('-s needs the name of a subsystem');
    return { type: 'subsystem', name: line };
  }
  if (draft.noCommand) throw new ArgumentError('-N: nothing to do without a forward; `postern up` keeps a link open');
  return line === '' ? undefined : { type: 'exec', command: line };
}

function portOf(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65535) throw new ArgumentError(`Bad port '${text}'`);
  return port;
}

/** `host:port`, `[v6]:port`, or the path of a Unix socket (ssh_config(5), -W). */
function forwardOf(text: string): Target {
  if (text.startsWith('/')) return { type: 'unix', path: text };
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:]+))[:/](\d+)$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || port === undefined) throw new ArgumentError(`Bad stdio forwarding specification '${text}'`);
  return { type: 'tcp', host, port: portOf(port) };
}
