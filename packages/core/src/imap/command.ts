/** The grammar of the few commands that may come before login (RFC 3501 §6.1, §6.2, §9; RFC 2971; RFC 4616; RFC 4959). */

import { Secret } from '../secret.ts';
import type { CommandParts } from './framer.ts';

/** A command before login. `tag` is safe to send back; `bad` without a tag had none. */
export type Command =
  | { readonly type: 'capability' | 'noop' | 'logout' | 'starttls' | 'id'; readonly tag: string }
  | { readonly type: 'login'; readonly tag: string; readonly user: string; readonly password: Secret }
  /** `initial`: the initial response as sent, `=` for an empty one (RFC 4959 §3). */
  | { readonly type: 'authenticate'; readonly tag: string; readonly mechanism: string; readonly initial?: Secret }
  /** Well formed, and not for now. `name` in upper case. */
  | { readonly type: 'other'; readonly tag: string; readonly name: string }
  | { readonly type: 'bad'; readonly tag?: string; readonly reason: string };

/** tag = 1*<any ASTRING-CHAR except "+"> (RFC 3501 §9). */
const TAG = /^[\x21\x23\x24\x26\x27\x2c-\x5b\x5d-\x7a\x7c\x7e]+$/;
const NAME = /^[A-Za-z][A-Za-z0-9._-]*$/;
/** ASTRING-CHAR, and `%`, `*` and 8-bit octets besides, which Dovecot 2.3 takes in a password too. */
const ATOM = /^[^\x00-\x20\x7f"(){\\]+/;
const QUOTED = /^"((?:[^"\\]|\\["\\])*)"/;

/** The tag of a command, whole or cut off; undefined where there is none. */
export function tagOf(parts: CommandParts): string | undefined {
  const [tag] = cutAtSpace(parts[0]?.toString('latin1') ?? '');
  return TAG.test(tag) ? tag : undefined;
}

/**
 * Reads a framed command. Never throws. A word alone is not taken for a tag and so never said back: it is likely what a client says in an authentication that has
 * failed meanwhile, a password among it. Blanks at the end count for nothing, as with Dovecot.
 */
export function parseCommand(parts: CommandParts): Command {
  const [tag, rest = ''] = cutAtSpace(parts[0]?.toString('latin1') ?? '');
  if (!TAG.test(tag)) return { type: 'bad', reason: 'A command starts with a tag' };
  if (rest.trim() === '') return { type: 'bad', reason: 'A command is a tag and a name' };
  const [name, args] = cutAtSpace(rest);
  if (!NAME.test(name)) return { type: 'bad', tag, reason: 'No command after the tag' };
  const upper = name.toUpperCase();
  switch (upper) {
    case 'CAPABILITY':
    case 'NOOP':
    case 'LOGOUT':
    case 'STARTTLS':
      if ((args ?? '').trim() !== '' || parts.length > 1)
        return { type: 'bad', tag, reason: `${upper} takes no arguments` };
      return { type: upper.toLowerCase() as 'capability' | 'noop' | 'logout' | 'starttls', tag };
    case 'ID':
      return args === undefined ? { type: 'bad', tag, reason: 'ID takes a list or NIL' } : { type: 'id', tag };
    case 'LOGIN':
      return parseLogin(tag, args === undefined ? undefined : [Buffer.from(args, 'latin1'), ...parts.slice(1)]);
    case 'AUTHENTICATE':
      return parseAuthenticate(tag, parts.length > 1 ? '' : (args ?? ''));
    default:
      return { type: 'other', tag, name: upper };
  }
}

function cutAtSpace(text: string): [string, string | undefined] {
  const at = text.indexOf(' ');
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

function parseLogin(tag: string, args: CommandParts | undefined): Command {
  const [user, password, extra] = (args && readStrings(args)) ?? [];
  if (user === undefined || password === undefined || extra !== undefined) {
    return { type: 'bad', tag, reason: 'LOGIN takes a user name and a password' };
  }
  return { type: 'login', tag, user, password: new Secret(password) };
}

function parseAuthenticate(tag: string, args: string): Command {
  const [mechanism, initial] = cutAtSpace(args.trimEnd());
  if (!NAME.test(mechanism)) return { type: 'bad', tag, reason: 'AUTHENTICATE takes a mechanism' };
  const command = { type: 'authenticate', tag, mechanism: mechanism.toUpperCase() } as const;
  return initial === undefined ? command : { ...command, initial: new Secret(initial) };
}

/** Strings (atom, quoted or literal) with one space between them, as UTF-8; undefined when they are anything else. */
function readStrings(parts: CommandParts): string[] | undefined {
  const values: Buffer[] = [];
  let needsSpace = false;
  for (const [index, part] of parts.entries()) {
    if (index % 2 === 1) {
      if (needsSpace) return undefined;
      values.push(part);
      needsSpace = true;
      continue;
    }
    for (let text = part.toString('latin1'); text !== ''; ) {
      if (needsSpace) {
        if (text[0] !== ' ') return undefined;
        text = text.slice(1);
        needsSpace = false;
        if (text === '' && index === parts.length - 1) return undefined;
        continue;
      }
      const quoted = QUOTED.exec(text);
      const found = quoted ?? ATOM.exec(text);
      if (found === null) return undefined;
      values.push(Buffer.from(quoted?.[1]?.replace(/\\(.)/g, '$1') ?? found[0], 'latin1'));
      text = text.slice(found[0].length);
      needsSpace = true;
    }
  }
  return values.map((value) => value.toString('utf8'));
}

/** What a PLAIN response says (RFC 4616 §2). An empty `authzid` means the user itself. */
export interface PlainCredentials {
  readonly authzid: string;
  readonly user: string;
  readonly password: Secret;
}

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** Decodes a base64 PLAIN response; `=` is the empty one. Undefined when it is not base64 or not `authzid NUL user NUL password`. */
export function parsePlain(response: string): PlainCredentials | undefined {
  if (!BASE64.test(response)) return undefined;
  const [authzid, user, password, extra] = Buffer.from(response, 'base64').toString('utf8').split('\0');
  if (authzid === undefined || user === undefined || password === undefined || extra !== undefined) return undefined;
  return { authzid, user, password: new Secret(password) };
}
