/** No key is trusted that known_hosts does not hold, and one that changed is refused. */
import { createHash, randomBytes } from 'node:crypto';
import { appendFile, mkdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { LinkError, quote, quoteAll } from '@postern/core';
import { formatAddress } from '../host/destination.ts';
import type { ResolvedHost } from '../host/resolved-host.ts';
import { markNeedsOpenssh } from '../needs-openssh.ts';
import {
  formatKnownHost,
  hostNames,
  judgeHostKey,
  type KnownHost,
  keyType,
  knownKeyTypes,
  parseKnownHosts,
  type Verdict,
} from './known-hosts.ts';

/** The SHA256 fingerprint of a key blob, as `ssh-keygen -l` prints it. */
export function fingerprint(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;
}

/** Host key algorithms in order of liking; SHA-1 and DSA have no place here. */
const ALGORITHMS: readonly { readonly algorithm: string; readonly keyType: string }[] = [
  { algorithm: 'ssh-ed25519', keyType: 'ssh-ed25519' },
  { algorithm: 'ecdsa-sha2-nistp256', keyType: 'ecdsa-sha2-nistp256' },
  { algorithm: 'ecdsa-sha2-nistp384', keyType: 'ecdsa-sha2-nistp384' },
  { algorithm: 'ecdsa-sha2-nistp521', keyType: 'ecdsa-sha2-nistp521' },
  { algorithm: 'rsa-sha2-512', keyType: 'ssh-rsa' },
  { algorithm: 'rsa-sha2-256', keyType: 'ssh-rsa' },
];

/** A host key that was accepted on request, and where it was written. */
export interface AcceptedKey {
  /** The name it stands under in the file. */
  readonly name: string;
  readonly type: string;
  readonly fingerprint: string;
  readonly file: string;
}

/** Judges the key a server offers; made anew for every dial, since the files may have changed. */
export interface HostKeyCheck {
  /** Algorithms to offer, those of known keys first. */
  readonly algorithms: readonly string[];
  /** The fault with this key, `undefined` when it is good. The verdict on a connection's first key holds for its rekeys. */
  verify(key: Buffer): LinkError | undefined;
  /** Writes down the key accepted by `verify`, once the server has proved that it holds it. */
  commit(): Promise<AcceptedKey | undefined>;
}

/** Largest known_hosts file that is read, bytes. */
const MAX_KNOWN_HOSTS_BYTES = 32 * 1024 * 1024;

/**
 * Reads the known_hosts files of a host. With `acceptNew` a key of an unknown host passes, and `commit` appends it; a changed or
 * revoked one never does. `link` is the name a person must give to `postern check`.
 */
export async function loadHostKeyCheck(
  host: ResolvedHost,
  o: { acceptNew: boolean; link: string },
): Promise<HostKeyCheck> {
  const files = [...host.userKnownHostsFiles, ...host.globalKnownHostsFiles];
  const entries = (await Promise.all(files.map(readKnownHosts))).flat();
  const revoked = host.revokedHostKeys === undefined ? undefined : await readRevoked(host.revokedHostKeys, host);
  const names = hostNames(host);
  const types = knownKeyTypes(entries, names);
  const isKnown = (entry: { keyType: string }): boolean => types.includes(entry.keyType);
  let accepted: Buffer | undefined;
  let isNew = false;
  return {
    algorithms: [...ALGORITHMS.filter(isKnown), ...ALGORITHMS.filter((entry) => !isKnown(entry))].map(
      (entry) => entry.algorithm,
    ),
    verify(key) {
      if (accepted !== undefined) return accepted.equals(key) ? undefined : switched(host, key);
      if (revoked?.some((bad) => bad.equals(key))) return fault({ type: 'revoked' }, host, key, o.link);
      const verdict = judgeHostKey(entries, names, key);
      isNew = verdict.type === 'unknown' && o.acceptNew;
      if (verdict.type !== 'known' && !isNew) return fault(verdict, host, key, o.link);
      accepted = key;
      return undefined;
    },
    async commit() {
      if (!isNew || accepted === undefined) return undefined;
      isNew = false;
      return appendKnownHost(host, names.name, accepted);
    },
  };
}

async function readKnownHosts(file: string): Promise<KnownHost[]> {
  const bytes = await readFile(file).catch(() => undefined);
  if (bytes === undefined || bytes.length > MAX_KNOWN_HOSTS_BYTES) return [];
  return parseKnownHosts(bytes.toString('utf8'), file);
}

/** RevokedHostKeys as a list of public keys. A binary KRL, or a file that cannot be read, refuses every host (ssh_config(5)). */
async function readRevoked(file: string, host: ResolvedHost): Promise<Buffer[]> {
  const unusable = (cause?: unknown): LinkError =>
    new LinkError(`RevokedHostKeys ${file} of ${host.host} cannot be read as a list of public keys`, {
      code: 'config',
      layer: 'hostkey',
      fix: `name a file of public keys, or set backend = "openssh" for ${host.host}`,
      cause,
    });
  const bytes = await readFile(file).catch((cause) => {
    throw unusable(cause);
  });
  if (bytes.toString('latin1', 0, 6) === 'SSHKRL') throw markNeedsOpenssh(unusable());
  return bytes
    .toString('utf8')
    .split('\n')
    .map((line) => Buffer.from(line.trim().split(/[ \t]+/)[1] ?? '', 'base64'))
    .filter((key) => keyType(key) !== undefined);
}

async function appendKnownHost(host: ResolvedHost, name: string, key: Buffer): Promise<AcceptedKey> {
  const file = host.userKnownHostsFiles[0];
  if (file === undefined) {
    throw new LinkError(`${host.host} has no UserKnownHostsFile to write its host key to`, {
      code: 'config',
      layer: 'hostkey',
    });
  }
  const line = formatKnownHost(name, key, host.hashKnownHosts ? randomBytes(20) : undefined);
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    const before = await readFile(file).catch(() => Buffer.alloc(0));
    const startsLine = before.length === 0 || before.at(-1) === 10;
    await appendFile(file, startsLine ? line : `\n${line}`, { mode: 0o600 });
  } catch (cause) {
    const message = `the host key of ${host.host} cannot be written to ${file}: ${(cause as Error).message}`;
    throw new LinkError(message, { code: 'config', layer: 'hostkey', cause });
  }
  return { name, type: keyType(key) ?? '', fingerprint: fingerprint(key), file };
}

function switched(host: ResolvedHost, key: Buffer): LinkError {
  return new LinkError(`${host.host} changed its host key in mid-connection, to ${fingerprint(key)}`, {
    code: 'hostkey-changed',
    layer: 'hostkey',
  });
}

/** The verdict in words, with the command that would accept the key where one may. */
function fault(
  verdict: Exclude<Verdict, { type: 'known' }> | { type: 'revoked'; entry?: KnownHost },
  host: ResolvedHost,
  key: Buffer,
  link: string,
): LinkError {
  const shown = `${keyType(key)} ${fingerprint(key)}`;
  const where = formatAddress(host.hostname, host.port);
  const accept = quoteAll(['postern', 'check', '--accept-new-host-key', link]);
  const make = (code: LinkError['code'], message: string, fix?: string): LinkError =>
    new LinkError(message, { code, layer: 'hostkey', fix });
  if (verdict.type === 'revoked') {
    const at = verdict.entry === undefined ? host.revokedHostKeys : `${verdict.entry.file}:${verdict.entry.line}`;
    return make('hostkey-revoked', `the host key of ${where} (${shown}) is marked as revoked in ${at}; do not connect`);
  }
  if (verdict.type === 'changed') {
    const { file, line } = verdict.entry;
    const { name } = hostNames(host);
    return make(
      'hostkey-changed',
      `the host key of ${where} is not the one in ${file}:${line}: it offers ${shown}. Somebody may be in between, or the host was set up anew`,
      `once you are sure of the new key: ssh-keygen -R ${quote(name)} -f ${quote(file)} && ${accept}`,
    );
  }
  const others =
    verdict.others.length === 0
      ? ''
      : ` (known for it: ${[...new Set(verdict.others.map((entry) => entry.type))].join(', ')})`;
  const authority =
    verdict.authority === undefined
      ? ''
      : `; ${verdict.authority.file}:${verdict.authority.line} names a certificate authority for it, and host certificates need backend = "openssh"`;
  const unknown = make(
    'hostkey-unknown',
    `the host key of ${where} is not known: it offers ${shown}${others}${authority}`,
    `if that is its fingerprint: ${accept}`,
  );
  return verdict.authority === undefined ? unknown : markNeedsOpenssh(unknown);
}
