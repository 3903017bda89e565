/** known_hosts is read as OpenSSH reads it, and a line that is not understood trusts nobody. */
import { createHmac, timingSafeEqual } from 'node:crypto';

/** One entry of a known_hosts file (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). */
export interface KnownHost {
  readonly file: string;
  /** Counted from 1. */
  readonly line: number;
  readonly marker?: 'revoked' | 'cert-authority';
  /** Comma-separated patterns, or one hashed name. */
  readonly names: string;
  readonly type: string;
  /** Key blob as it goes over the wire (RFC 4253 §6.6). */
  readonly key: Buffer;
}

/** What known_hosts says of an offered key. */
export type Verdict =
  | { readonly type: 'known'; readonly entry: KnownHost }
  /** `others`: keys of other types known for the host. `authority`: a certificate authority is named for it. */
  | { readonly type: 'unknown'; readonly others: readonly KnownHost[]; readonly authority?: KnownHost }
  /** Another key of the same type is known. */
  | { readonly type: 'changed'; readonly entry: KnownHost }
  | { readonly type: 'revoked'; readonly entry: KnownHost };

/** Names a host goes by in known_hosts. */
export interface HostNames {
  /** `host`, `[host]:port` when the port is not 22, or the alias. */
  readonly name: string;
  /** The name without its port: a key listed there is accepted too, as OpenSSH does, but one that differs is not a change. */
  readonly bare?: string;
}

/** The names to look up: an alias stands alone and without a port (ssh_config(5), HostKeyAlias). */
export function hostNames(host: { hostname: string; port: number; hostKeyAlias?: string }): HostNames {
  if (host.hostKeyAlias !== undefined) return { name: host.hostKeyAlias.toLowerCase() };
  const bare = host.hostname.toLowerCase();
  return host.port === 22 ? { name: bare } : { name: `[${bare}]:${host.port}`, bare };
}

/** Reads a known_hosts file. Comments, empty and malformed lines are passed over, as OpenSSH does. */
export function parseKnownHosts(text: string, file: string): KnownHost[] {
  const entries: KnownHost[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const words = line.trim().split(/[ \t]+/);
    const marker = words[0]?.startsWith('@') ? words.shift() : undefined;
    const [names, type, encoded] = words;
    if (names === undefined || names.startsWith('#') || type === undefined || encoded === undefined) continue;
    if (marker !== undefined && marker !== '@revoked' && marker !== '@cert-authority') continue;
    const key = Buffer.from(encoded, 'base64');
    if (keyType(key) !== type) continue;
    entries.push({
      file,
      line: index + 1,
      names,
      type,
      key,
      ...(marker === undefined ? {} : { marker: marker.slice(1) as 'revoked' | 'cert-authority' }),
    });
  }
  return entries;
}

/** The type named in a key blob; `undefined` when it is not one. */
export function keyType(key: Buffer): string | undefined {
  if (key.length < 4) return undefined;
  const length = key.readUInt32BE(0);
  return length === 0 || length > 64 || key.length < 4 + length ? undefined : key.toString('latin1', 4, 4 + length);
}

/** Whether the names of an entry cover `name` (lower case): hashed, `*`, `?`, and `!` that excludes whatever else matches. */
export function coversName(names: string, name: string): boolean {
  if (names.startsWith('|')) return hashCovers(names, name);
  let covered = false;
  for (const pattern of names.split(',')) {
    const negated = pattern.startsWith('!');
    if (!globMatches((negated ? pattern.slice(1) : pattern).toLowerCase(), name)) continue;
    if (negated) return false;
    covered = true;
  }
  return covered;
}

/** `|1|salt|hash`: HMAC-SHA1 of the name, keyed by the salt. */
function hashCovers(names: string, name: string): boolean {
  const [, version, salt, hash] = names.split('|');
  if (version !== '1' || salt === undefined || hash === undefined) return false;
  const wanted = Buffer.from(hash, 'base64');
  const found = hashName(name, Buffer.from(salt, 'base64'));
  return wanted.length === found.length && timingSafeEqual(wanted, found);
}

function hashName(name: string, salt: Buffer): Buffer {
  return createHmac('sha1', salt).update(name).digest();
}

/** Linear in pattern times name: patterns come from files, but a regular expression could still be made to backtrack for ever. */
function globMatches(pattern: string, name: string): boolean {
  let at = 0;
  let star = -1;
  let resume = 0;
  for (let i = 0; i < name.length; ) {
    if (pattern[at] === '*') {
      star = at++;
      resume = i;
    } else if (at < pattern.length && (pattern[at] === '?' || pattern[at] === name[i])) {
      at++;
      i++;
    } else if (star !== -1) {
      at = star + 1;
      i = ++resume;
    } else return false;
  }
  while (pattern[at] === '*') at++;
  return at === pattern.length;
}

/** Judges an offered key as OpenSSH does: revoked wins, then the same key, then another of its type, else unknown. */
export function judgeHostKey(entries: readonly KnownHost[], names: HostNames, key: Buffer): Verdict {
  const named = entries.filter((entry) => coversName(entry.names, names.name));
  const { bare } = names;
  const namedBare = bare === undefined ? [] : entries.filter((entry) => coversName(entry.names, bare));
  const same = (entry: KnownHost): boolean => entry.key.equals(key);
  const revoked = [...named, ...namedBare].find((entry) => entry.marker === 'revoked' && same(entry));
  if (revoked !== undefined) return { type: 'revoked', entry: revoked };
  const plain = named.filter((entry) => entry.marker === undefined);
  const known = plain.find(same);
  if (known !== undefined) return { type: 'known', entry: known };
  const type = keyType(key);
  const changed = plain.find((entry) => entry.type === type);
  if (changed !== undefined) return { type: 'changed', entry: changed };
  const knownBare = namedBare.find((entry) => entry.marker === undefined && same(entry));
  if (knownBare !== undefined) return { type: 'known', entry: knownBare };
  const authority = [...named, ...namedBare].find((entry) => entry.marker === 'cert-authority');
  return { type: 'unknown', others: plain, ...(authority === undefined ? {} : { authority }) };
}

/** The key types known for a host, so that the server is asked for one of those first. */
export function knownKeyTypes(entries: readonly KnownHost[], names: HostNames): string[] {
  const covered = (entry: KnownHost, name: string | undefined): boolean =>
    name !== undefined && entry.marker === undefined && coversName(entry.names, name);
  const own = entries.filter((entry) => covered(entry, names.name));
  const found = own.length > 0 ? own : entries.filter((entry) => covered(entry, names.bare));
  return [...new Set(found.map((entry) => entry.type))];
}

/** A line for a known_hosts file, its name hashed when a 20-byte `salt` is given. Ends in LF. */
export function formatKnownHost(name: string, key: Buffer, salt?: Buffer): string {
  const names = salt === undefined ? name : `|1|${salt.toString('base64')}|${hashName(name, salt).toString('base64')}`;
  return `${names} ${keyType(key)} ${key.toString('base64')}\n`;
}
