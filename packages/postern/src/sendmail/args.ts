/** sendmail's command line. */
import type { Notify } from '@postern/core';
import { PosternError } from '../base/errors.ts';

/** The names the command answers to, beside `postern sendmail`. */
export type SendmailProgram = 'sendmail' | 'mailq' | 'newaliases';

/** A message to take from standard input. */
export interface SubmitRequest {
  readonly type: 'submit';
  /** `-t`: recipients also from To, Cc and Bcc. */
  readonly fromHeader: boolean;
  /** `-i`, `-oi`: a line with a lone dot is text. Without, it ends the message. */
  readonly dotIsText: boolean;
  /** `-f`, `-r`: reverse-path as given; the empty string (or `<>`) is the null one. */
  readonly sender?: string;
  /** `-F`: full name for a From line that is made here. */
  readonly fullName?: string;
  readonly recipients: readonly string[];
  /** `-N` (RFC 3461 §4.1). */
  readonly notify?: readonly Notify[];
  /** `-R` (RFC 3461 §4.3). */
  readonly ret?: 'FULL' | 'HDRS';
  /** `-V` (RFC 3461 §4.4). */
  readonly envid?: string;
}

/** What a command line asks for. */
export type SendmailRequest =
  | SubmitRequest
  /** `-bs`: SMTP on standard input and output. */
  | { readonly type: 'smtp' }
  /** `-bp`, `mailq`. */
  | { readonly type: 'mailq' }
  /** `-q…`: make entries due. `id` from `-qI…`; anything else flushes all. */
  | { readonly type: 'flush'; readonly id?: string }
  /** `-bi`, `newaliases`: there are no aliases to build. */
  | { readonly type: 'newaliases' }
  | { readonly type: 'help' }
  | { readonly type: 'version' };

/** A command line, read. */
export interface SendmailArgs {
  readonly request: SendmailRequest;
  /** Postern's own `--config`. */
  readonly config?: string;
  /** Postern's own `--json`. */
  readonly json: boolean;
}

/** Options that take a value, attached or as the next argument: sendmail 8.17's and Postfix's, one set. */
const WITH_VALUE = 'ABCFLMNORVXDbefhopr';
/** Options whose value, if any, is attached: `-q`, `-q15m`, `-qRsite`, `-d0.1`. */
const MAYBE_VALUE = 'qd';
const FLAGS = 'GIUcimnstvxTE';

/** What the options say, before they are judged together. */
interface Seen {
  mode: string;
  fromHeader: boolean;
  dotIsText: boolean;
  json: boolean;
  queue?: string;
  config?: string;
  sender?: string;
  fullName?: string;
  notify?: readonly Notify[];
  ret?: 'FULL' | 'HDRS';
  envid?: string;
}

/**
 * Reads a command line as getopt(3) does, options first: letters may be joined (`-ti`), values attached or next. What other sendmails
 * take and Postern has no use for (`-o…`, `-O…`, `-A`, `-L`, `-v`…) is read and ignored. Throws {@link PosternError} `usage`.
 */
export function parseSendmailArgs(argv: readonly string[], program: SendmailProgram = 'sendmail'): SendmailArgs {
  const seen: Seen = { mode: 'm', fromHeader: false, dotIsText: false, json: false };
  if (program !== 'sendmail') seen.mode = program === 'mailq' ? 'p' : 'i';
  let at = 0;
  for (; at < argv.length; at += 1) {
    const word = argv[at] ?? '';
    if (word === '--') {
      at += 1;
      return judge(seen, argv.slice(at));
    }
    if (word === '--help' || word === '--version') {
      return { request: { type: word === '--help' ? 'help' : 'version' }, json: seen.json };
    }
    if (word.startsWith('--')) at = longOption(seen, argv, at);
    else if (word.startsWith('-') && word !== '-') at = letters(seen, argv, at);
    else break;
  }
  const rest = argv.slice(at);
  const late = rest.find((word) => word.startsWith('-'));
  if (late !== undefined) {
    throw usage(
      `${JSON.stringify(late)} stands after a recipient`,
      'put options first, and -- before an address that begins with a dash',
    );
  }
  return judge(seen, rest);
}

function usage(message: string, fix?: string): PosternError {
  return new PosternError('usage', `${message}`, { fix });
}

/** Postern's own global options. Gives the index of the last word used. */
function longOption(seen: Seen, argv: readonly string[], at: number): number {
  const [, name, value] = /^--([^=]*)(?:=(.*))?$/s.exec(argv[at] ?? '') ?? [];
  if (name === 'json' && value === undefined) {
    seen.json = true;
    return at;
  }
  if (name !== 'config') throw usage(`unknown option ${JSON.stringify(argv[at])}`);
  const file = value ?? argv[at + 1];
  if (file === undefined || file === '') throw usage('--config needs a file');
  seen.config = file;
  return value === undefined ? at + 1 : at;
}

/** One word of joined letters. Gives the index of the last word used. */
function letters(seen: Seen, argv: readonly string[], at: number): number {
  const word = argv[at] ?? '';
  for (let index = 1; index < word.length; index += 1) {
    const letter = word.charAt(index);
    const attached = word.slice(index + 1);
    if (MAYBE_VALUE.includes(letter)) {
      if (letter === 'q') seen.queue = attached;
      return at;
    }
    if (WITH_VALUE.includes(letter)) {
      const value = attached === '' ? argv[at + 1] : attached;
      if (value === undefined) throw usage(`-${letter} needs a value`);
      withValue(seen, letter, value);
      return attached === '' ? at + 1 : at;
    }
    if (!FLAGS.includes(letter)) throw usage(`unknown option -${letter}`);
    if (letter === 't') seen.fromHeader = true;
    if (letter === 'i') seen.dotIsText = true;
    if (letter === 'I') seen.mode = 'i';
  }
  return at;
}

function withValue(seen: Seen, letter: string, value: string): void {
  switch (letter) {
    case 'b':
      seen.mode = value;
      return;
    case 'f':
    case 'r':
      seen.sender = value === '<>' ? '' : value;
      return;
    case 'F':
      seen.fullName = value;
      return;
    case 'o':
      if (value === 'i') seen.dotIsText = true;
      return;
    case 'N':
      seen.notify = notifyOf(value);
      return;
    case 'R':
      // Sendmail has `-R full|hdrs`; `-R site` is a queue run for one site in Postfix.
      if (/^(full|hdrs)$/i.test(value)) seen.ret = value.toUpperCase() as 'FULL' | 'HDRS';
      else seen.queue = `R${value}`;
      return;
    case 'V':
      seen.envid = value;
      return;
    default:
      return;
  }
}

function notifyOf(value: string): readonly Notify[] {
  const words = value.split(',').map((word) => word.trim().toUpperCase());
  const known = words.every((word) => ['NEVER', 'SUCCESS', 'FAILURE', 'DELAY'].includes(word));
  if (!known || (words.includes('NEVER') && words.length > 1)) {
    throw usage(`-N takes never, or any of success,failure,delay, not ${JSON.stringify(value)}`);
  }
  return words as readonly Notify[];
}

function judge(seen: Seen, recipients: readonly string[]): SendmailArgs {
  return {
    request: requestOf(seen, recipients),
    json: seen.json,
    ...(seen.config === undefined ? {} : { config: seen.config }),
  };
}

function requestOf(seen: Seen, recipients: readonly string[]): SendmailRequest {
  switch (seen.mode) {
    case 's':
      return { type: 'smtp' };
    case 'i':
      return { type: 'newaliases' };
    case 'd':
    case 'D':
      throw usage('this is no daemon', 'run: postern up');
    case 'v':
    case 't':
      throw usage(`-b${seen.mode} is not offered`, 'run: postern route ADDRESS');
    case 'p':
    case 'm':
    case 'a':
      break;
    default:
      throw usage(`unknown mode -b${seen.mode}`, 'modes are -bm, -bs, -bp and -bi');
  }
  if (seen.queue !== undefined) {
    return seen.queue.startsWith('I') ? { type: 'flush', id: seen.queue.slice(1) } : { type: 'flush' };
  }
  if (seen.mode === 'p') return { type: 'mailq' };
  if (recipients.length === 0 && !seen.fromHeader)
    throw usage('no recipients', 'name them, or use -t to take them from the header');
  return {
    type: 'submit',
    fromHeader: seen.fromHeader,
    dotIsText: seen.dotIsText,
    recipients,
    ...(seen.sender === undefined ? {} : { sender: seen.sender }),
    ...(seen.fullName === undefined ? {} : { fullName: seen.fullName }),
    ...(seen.notify === undefined ? {} : { notify: seen.notify }),
    ...(seen.ret === undefined ? {} : { ret: seen.ret }),
    ...(seen.envid === undefined ? {} : { envid: seen.envid }),
  };
}
