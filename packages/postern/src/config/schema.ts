/** Every key of the configuration: its type, its bounds, what it accepts. */
import { parseDomain, parseTarget } from '@postern/core';
import type { LongLines } from '@postern/relay';
import { z } from 'zod';
import { checkRoutePattern } from './pattern.ts';
import { expandPath, LISTEN_ACCEPTED, type ListenAddress, parseDuration, parseListen, parseSize } from './units.ts';

/** Longest and shortest keepalive that make sense: below, a busy line looks dead; above, a dead one looks alive. */
const KEEPALIVE_MS = { min: 1000, max: 3_600_000 };
/** How long a client may be made to wait for a link. */
const PATIENCE_MS = { min: 1000, max: 30 * 24 * 3_600_000 };
/** Spare sessions per endpoint; each is an imapd over there. */
const SPARE_MAX = 16;
const SIZE_MIN = 64 * 1024;

/** What reading a file's values needs besides the file. */
export interface SchemaContext {
  /** `$HOME`. */
  readonly home: string;
  /** Where relative `unix:` paths lie. */
  readonly runtimeDir: string;
  /** Where other relative paths lie: the configuration file's directory. */
  readonly base: string;
  /** The uid of a user name, or undefined when there is none. */
  lookupUser(name: string): number | undefined;
}

/** Who may come in, one item of `allow`. */
export type AllowRule =
  | { readonly type: 'same-user' }
  | { readonly type: 'password' }
  | { readonly type: 'anyone' }
  | { readonly type: 'user'; readonly name: string; readonly uid: number };

/** `[host.NAME]` as written. Paths are absolute, durations milliseconds. */
export interface HostValues {
  destination?: string | undefined;
  jump?: string[] | undefined;
  backend?: 'auto' | 'ssh2' | 'openssh' | undefined;
  identity?: string[] | undefined;
  known_hosts?: string[] | undefined;
  compression?: boolean | undefined;
  keepalive?: number | undefined;
  imapd?: string | undefined;
  passphrase_command?: string | undefined;
  smtp?: string | undefined;
  receipts?: 'auto' | 'off' | undefined;
}

/** Keys of a table that listens to mail clients. */
export interface ListenerValues {
  listen?: ListenAddress[] | undefined;
  tls?: 'off' | 'starttls' | 'implicit' | undefined;
  tls_certificate?: string | undefined;
  tls_key?: string | undefined;
  expose?: boolean | undefined;
}

/** `[[route]]` as written. */
export interface RouteValues {
  match: string[];
  from?: string[] | undefined;
  host?: string | undefined;
  smarthost?: string | undefined;
  password_file?: string | undefined;
  password_command?: string | undefined;
  dialogue?: 'auto' | 'stream' | 'pipelined' | 'lockstep' | 'bsmtp' | undefined;
  queue?: boolean | undefined;
}

/** An `[[imap]]` table. `patience` in milliseconds. */
export interface ImapValues extends ListenerValues {
  host?: string | undefined;
  spare?: number | undefined;
  continuity?: boolean | undefined;
  patience?: number | undefined;
}

/** A configuration file's values, checked one by one; absent keys are absent. Sizes are octets. */
export interface FileValues {
  state_dir?: string | undefined;
  ssh_config?: string | undefined;
  host?: Record<string, HostValues> | undefined;
  imap?: ImapValues[] | undefined;
  smtp?:
    | (ListenerValues & {
        max_size?: number | undefined;
        helo?: string | undefined;
        long_lines?: LongLines | undefined;
      })
    | undefined;
  access?: { allow?: AllowRule[] | undefined } | undefined;
  route?: RouteValues[] | undefined;
  forward?: { listen: ListenAddress; host: string; to: string; expose?: boolean | undefined }[] | undefined;
  reverse?: { host: string; listen: string; to: string; domains?: string[] | undefined }[] | undefined;
}

/**
 * A value read by `read`, which throws `RangeError` with what is wrong. The issue's message is what would be accepted, its
 * `params.problem` what is wrong: every message of this schema is the accepted values, see `describeIssue`.
 */
function from<T>(accepted: string, read: (text: string) => T): z.ZodType<T, unknown> {
  return z.string({ error: accepted }).transform((text, ctx) => {
    try {
      return read(text);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      ctx.issues.push({ code: 'custom', message: accepted, input: text, params: { problem: error.message } });
      return z.NEVER;
    }
  });
}

function table<S extends z.ZodRawShape>(shape: S): z.ZodObject<S, z.core.$strict> {
  return z.strictObject(shape, {
    error: (issue) => (issue.code === 'unrecognized_keys' ? Object.keys(shape).join(', ') : 'a table'),
  });
}

const oneOf = <const V extends readonly [string, ...string[]]>(values: V): z.ZodType<V[number], unknown> =>
  z.enum(values, { error: values.map((value) => JSON.stringify(value)).join(', ') });
const flag: z.ZodType<boolean, unknown> = z.boolean({ error: 'true or false' });
const list = <T>(item: z.ZodType<T, unknown>, what: string, min = 1): z.ZodType<T[], unknown> =>
  z.array(item, { error: `a list of ${what}` }).min(min, { error: `a list of at least one of ${what}` });

/** Throws `RangeError` unless `name` can be a host's name: no leading dash, blank, quote or control character. */
export function checkHostName(name: string): string {
  if (!/^(?!-)[^\s\p{Cc}'"`$\\;&|<>(){}*?!#~/]{1,255}$/u.test(name)) {
    throw new RangeError(`${JSON.stringify(name)} cannot be a host's name`);
  }
  return name;
}
const hostName: z.ZodType<string, unknown> = from('a name as given to ssh, like "gate"', checkHostName);

const destination: z.ZodType<string, unknown> = from('"[user@]host[:port]"', (text) => {
  const [, host, port] =
    /^(?:[^@\s]+@)?(\[[0-9a-fA-F:.%]+\]|[^@:\s[\]]+|[0-9a-fA-F:]{3,})(?::(\d{1,5}))?$/.exec(text) ?? [];
  if (host === undefined || text.startsWith('-') || host.startsWith('-')) {
    throw new RangeError(`${JSON.stringify(text)} is not a destination`);
  }
  if (port !== undefined && (Number(port) < 1 || Number(port) > 65535)) {
    throw new RangeError(`${JSON.stringify(text)} has a port outside 1 to 65535`);
  }
  return text;
});

const command = (example: string): z.ZodType<string, unknown> =>
  from(`a command, like ${JSON.stringify(example)}`, (text) => {
    if (text.trim() === '' || /[\0\r\n]/.test(text)) throw new RangeError(`${JSON.stringify(text)} is not a command`);
    return text;
  });

const target: z.ZodType<string, unknown> = from(
  'a command, "tcp:HOST:PORT", "unix:/PATH" or "subsystem:NAME"',
  (text) => {
    if (/[\0\r\n]/.test(text)) throw new RangeError(`${JSON.stringify(text)} is not a command`);
    parseTarget(text);
    return text;
  },
);

const domain: z.ZodType<string, unknown> = from('a domain, like "home.example"', (text) => {
  if (!/^(?!-)[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$/.test(text))
    throw new RangeError(`${JSON.stringify(text)} is not a domain`);
  return text.toLowerCase();
});

const helo: z.ZodType<string, unknown> = from(
  'a host name or address literal, like "laptop.home.example" or "[192.0.2.1]"',
  (text) => {
    try {
      return parseDomain(text);
    } catch {
      throw new RangeError(`${JSON.stringify(text)} is not a name to greet with`);
    }
  },
);

const keepalive: z.ZodType<number, unknown> = from('a duration from "1s" to "1h"', (text) => {
  const ms = parseDuration(text);
  if (ms < KEEPALIVE_MS.min || ms > KEEPALIVE_MS.max) throw new RangeError(`${JSON.stringify(text)} is out of range`);
  return ms;
});

const patience: z.ZodType<number, unknown> = from('a duration from "1s" to "30d", like "15m"', (text) => {
  const ms = parseDuration(text);
  if (ms < PATIENCE_MS.min || ms > PATIENCE_MS.max) throw new RangeError(`${JSON.stringify(text)} is out of range`);
  return ms;
});

const size: z.ZodType<number, unknown> = from('a size from "64KiB", like "25MiB"', (text) => {
  const octets = parseSize(text);
  if (octets < SIZE_MIN) throw new RangeError(`${JSON.stringify(text)} is too small for mail`);
  return octets;
});

const SMARTHOST = '"smtps://[USER@]HOST[:PORT]" or "smtp://[USER@]HOST[:PORT]"';
const smarthost: z.ZodType<string, unknown> = from(SMARTHOST, (text) => {
  // The text may hold a password: it is never repeated.
  if (!URL.canParse(text)) throw new RangeError('this is not a smarthost');
  const url = new URL(text);
  if (url.protocol !== 'smtps:' && url.protocol !== 'smtp:') throw new RangeError('this is not a smarthost');
  if (url.password !== '')
    throw new RangeError('a password does not belong here but in password_file or password_command');
  const bare = url.hostname !== '' && ['', '/'].includes(url.pathname) && url.search === '' && url.hash === '';
  if (!bare) throw new RangeError('this is not a smarthost');
  return text;
});

function forwardListen(text: string): string {
  const [, host, port] = /^(?:(\[[^\]]+\]|[^:[\]\s]+):)?(\d{1,5})$/.exec(text) ?? [];
  if (port === undefined || Number(port) > 65535 || host?.startsWith('-')) {
    throw new RangeError(`${JSON.stringify(text)} is not an address with a port`);
  }
  return text;
}

function reverseTo(text: string, path: (text: string) => string): string {
  if (text.startsWith('unix:')) return `unix:${path(text.slice('unix:'.length))}`;
  if (!/^(\[[^\]]+\]|[^:[\]\s-][^:[\]\s]*):(\d{1,5})$/.test(text) || Number(text.split(':').at(-1)) > 65535) {
    throw new RangeError(`${JSON.stringify(text)} is not an address with a port`);
  }
  return text;
}

function readAllow(text: string, lookupUser: SchemaContext['lookupUser']): AllowRule {
  if (text === 'same-user' || text === 'password' || text === 'anyone') return { type: text };
  const [, name] = /^user:([^\s:]+)$/.exec(text) ?? [];
  if (name === undefined) throw new RangeError(`${JSON.stringify(text)} is no rule`);
  const uid = lookupUser(name);
  if (uid === undefined) throw new RangeError(`this machine has no user ${JSON.stringify(name)}`);
  return { type: 'user', name, uid };
}

/** The schema of the whole file. Its issues' messages are the accepted values. */
function makeSchema(o: SchemaContext): z.ZodType<FileValues, unknown> {
  const expand = (text: string): string => expandPath(text, o);
  const path = from('a path, like "~/.ssh/config"', (text) => {
    if (text === '' || text.includes('\0')) throw new RangeError(`${JSON.stringify(text)} is not a path`);
    return expand(text);
  });
  const listen: z.ZodType<ListenAddress, unknown> = from(LISTEN_ACCEPTED, (text) => parseListen(text, o));
  const pattern = from('"name.example", "*.name.example", "user@name.example", "/regex/" or "*"', (text) => {
    checkRoutePattern(text);
    return text;
  });
  const tls = {
    tls: oneOf(['off', 'starttls', 'implicit']).optional(),
    tls_certificate: path.optional(),
    tls_key: path.optional(),
    expose: flag.optional(),
  };
  const host = table({
    destination: destination.optional(),
    jump: list(destination, 'destinations "[user@]host[:port]"', 0).optional(),
    backend: oneOf(['auto', 'ssh2', 'openssh']).optional(),
    identity: list(path, 'paths').optional(),
    known_hosts: list(path, 'paths').optional(),
    compression: flag.optional(),
    keepalive: keepalive.optional(),
    imapd: target.optional(),
    passphrase_command: command('pass show ssh').optional(),
    smtp: target.optional(),
    receipts: oneOf(['auto', 'off']).optional(),
  });
  const spare = `a whole number from 0 to ${SPARE_MAX}`;
  const imap = table({
    listen: list(listen, 'listen addresses').optional(),
    host: hostName.optional(),
    spare: z.int({ error: spare }).min(0, { error: spare }).max(SPARE_MAX, { error: spare }).optional(),
    continuity: flag.optional(),
    patience: patience.optional(),
    ...tls,
  });
  const allow = from('"same-user", "password", "user:NAME" (a user of this machine), "anyone"', (text) =>
    readAllow(text, o.lookupUser),
  );
  const route = table({
    match: list(pattern, 'patterns'),
    from: list(pattern, 'reverse-path patterns').optional(),
    host: hostName.optional(),
    smarthost: smarthost.optional(),
    password_file: path.optional(),
    password_command: command('pass show mail').optional(),
    dialogue: oneOf(['auto', 'stream', 'pipelined', 'lockstep', 'bsmtp']).optional(),
    queue: flag.optional(),
  });
  const forward = table({ listen, host: hostName, to: target, expose: flag.optional() });
  const reverse = table({
    host: hostName,
    listen: from('"[ADDRESS:]PORT" on the far side', forwardListen),
    to: from('"ADDRESS:PORT" or "unix:PATH" on this machine', (text) => reverseTo(text, expand)),
    domains: list(domain, 'domains').optional(),
  });
  const named = z.record(
    z.string().refine((name) => isHostName(name), { error: 'a name as given to ssh, like "gate"' }),
    host,
    { error: 'tables, one [host.NAME] each' },
  );
  return table({
    state_dir: path.optional(),
    ssh_config: path.optional(),
    host: named.optional(),
    imap: z.array(imap, { error: '[[imap]] tables' }).optional(),
    smtp: table({
      listen: list(listen, 'listen addresses').optional(),
      max_size: size.optional(),
      long_lines: oneOf(['encode', 'keep', 'refuse']).optional(),
      helo: helo.optional(),
      ...tls,
    }).optional(),
    access: table({ allow: list(allow, 'rules', 0).optional() }).optional(),
    route: z.array(route, { error: '[[route]] tables' }).optional(),
    forward: z.array(forward, { error: '[[forward]] tables' }).optional(),
    reverse: z.array(reverse, { error: '[[reverse]] tables' }).optional(),
  });
}

function isHostName(name: string): boolean {
  try {
    checkHostName(name);
    return true;
  } catch {
    return false;
  }
}

/** One fault: where, what is wrong, and what would be right. */
export interface ConfigFault {
  readonly path: readonly (string | number)[];
  readonly problem: string;
  readonly accepted?: string;
}

/** Checks a file's values one by one. Rules between values are elsewhere. */
export function checkValues(
  value: Record<string, unknown>,
  o: SchemaContext,
): { type: 'values'; values: FileValues } | { type: 'faults'; faults: ConfigFault[] } {
  const result = makeSchema(o).safeParse(value);
  if (result.success) return { type: 'values', values: result.data };
  return { type: 'faults', faults: result.error.issues.flatMap((issue) => describeIssue(issue, value)) };
}

function describeIssue(issue: z.core.$ZodIssue, root: unknown): ConfigFault[] {
  const path = issue.path.map((part) => (typeof part === 'symbol' ? String(part) : part));
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({ path: [...path, key], problem: 'unknown key', accepted: issue.message }));
  }
  if (issue.code === 'invalid_key') {
    return [{ path, problem: 'this name cannot be used', accepted: issue.issues[0]?.message ?? '' }];
  }
  const value = path.reduce<unknown>((at, part) => (at as Record<string | number, unknown> | undefined)?.[part], root);
  if (value === undefined) return [{ path, problem: 'is missing', accepted: issue.message }];
  if (issue.code === 'custom' && typeof issue.params?.problem === 'string') {
    return [{ path, problem: issue.params.problem, accepted: issue.message }];
  }
  return [{ path, problem: `${show(value)} is not accepted`, accepted: issue.message }];
}

function show(value: unknown): string {
  if (value instanceof Date) return 'a date';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  if (typeof value === 'object') return 'a table';
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
