/** The keys to offer, in OpenSSH's order; each that is passed over is told, with the reason. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { deadline, type Env } from '@postern/core';
import ssh2 from 'ssh2';
import type { ResolvedHost } from '../host/resolved-host.ts';
import { type AgentKey, listAgentKeys } from './agent.ts';
import { fingerprint } from './host-key.ts';
import { inspectKeyFile } from './key-file.ts';
import { keyType } from './known-hosts.ts';

/** A key to offer. */
export interface Identity {
  /** For messages: where it comes from, its type and fingerprint. */
  readonly label: string;
  readonly publicKey: Buffer;
  /** Signs with `hash` (`sha256`, `sha512`, `undefined` for the key's own). Rejects with what to do. */
  sign(data: Buffer, hash: string | undefined): Promise<Buffer>;
}

/** What there is to authenticate with, and what was passed over and why. */
export interface Identities {
  readonly offered: readonly Identity[];
  readonly notices: readonly string[];
  /** A key was passed over that the system's ssh could use. */
  readonly passedOver: boolean;
}

/** Key types the built-in ssh can use; others need the system's. */
const USABLE_TYPES = /^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521))$/;
const NEEDS_OPENSSH = 'it needs backend = "openssh"';
const PKCS8 = `is in PKCS#8 format (ssh-keygen -p -f converts it): ${NEEDS_OPENSSH}`;
/** Largest key file that is read, bytes. */
const MAX_KEY_FILE_BYTES = 64 * 1024;
/** Longest wait for an agent to list its keys, ms. */
const AGENT_TIMEOUT_MS = 3_000;

/**
 * Collects keys in OpenSSH's order: agent keys that are also named in the configuration, other agent keys (not with
 * IdentitiesOnly), then keys there are only files of. Never rejects: what is missing is a notice.
 */
export async function loadIdentities(host: ResolvedHost, env: Env): Promise<Identities> {
  const notices: string[] = [];
  const [agentKeys, files] = await Promise.all([
    listAgent(host.identityAgent, { env, notices }),
    Promise.all(host.identityFiles.map((path) => readIdentityFile(path))),
  ]);
  const present = files.filter((file) => file !== undefined);
  const inAgent = (key: Buffer | undefined): Identity | undefined =>
    key && agentKeys.find((identity) => identity.publicKey.equals(key));
  const configured = present.map((file) => inAgent(file.publicKey)).filter((identity) => identity !== undefined);
  const others = host.identitiesOnly ? [] : agentKeys.filter((identity) => !configured.includes(identity));
  const fromFiles = present
    .filter((file) => inAgent(file.publicKey) === undefined)
    .map((file) => fileIdentity(file, host, notices))
    .filter((identity) => identity !== undefined);
  const passedOver = notices.some((notice) => notice.endsWith(NEEDS_OPENSSH));
  return { offered: [...new Set([...configured, ...others, ...fromFiles])], notices, passedOver };
}

function label(where: string, publicKey: Buffer): string {
  return `${where} (${keyType(publicKey)} ${fingerprint(publicKey)})`;
}

async function listAgent(socket: string | undefined, o: { env: Env; notices: string[] }): Promise<Identity[]> {
  if (socket === undefined) return [];
  using limit = deadline(o.env, AGENT_TIMEOUT_MS, { reason: () => new Error('it is silent') });
  const keys = await listAgentKeys(socket, limit.signal).catch((error: Error): AgentKey[] => {
    o.notices.push(`the agent at ${socket} does not answer: ${error.message}`);
    return [];
  });
  const agent = ssh2.createAgent(socket);
  return keys.flatMap((key) => agentIdentity(agent, key, o.notices));
}

function agentIdentity(agent: ssh2.BaseAgent, key: AgentKey, notices: string[]): Identity[] {
  const type = keyType(key.blob);
  const parsed = ssh2.utils.parseKey(key.blob);
  if (parsed instanceof Error || !USABLE_TYPES.test(type ?? '')) {
    notices.push(`agent key ${key.comment} of type ${type ?? 'unknown'} passed over: ${NEEDS_OPENSSH}`);
    return [];
  }
  return [
    {
      label: label(`agent key ${key.comment}`.trimEnd(), key.blob),
      publicKey: key.blob,
      sign: (data, hash) =>
        new Promise((resolve, reject) => {
          const done = (error: Error | undefined | null, signature?: Buffer): void => {
            if (error || signature === undefined) reject(new Error(`the agent refused to sign: ${error?.message}`));
            else resolve(signature);
          };
          agent.sign(parsed, data, hash === undefined ? {} : { hash: hash as 'sha256' }, done);
        }),
    },
  ];
}

/** A key file as found. */
interface FoundFile {
  readonly path: string;
  readonly text: string;
  readonly encrypted: boolean;
  readonly publicOnly: boolean;
  readonly publicKey?: Buffer;
  readonly unusable?: string;
  /** `PATH-cert.pub` is there, which ssh offers before the key (ssh_config(5), CertificateFile). */
  readonly certified?: boolean;
}

async function readIdentityFile(path: string): Promise<FoundFile | undefined> {
  const bytes = await readFile(path).catch((error: NodeJS.ErrnoException) => error);
  if (bytes instanceof Error) {
    if (bytes.code === 'ENOENT') return readPublicHalf(path);
    return { path, text: '', encrypted: false, publicOnly: false, unusable: `cannot be read (${bytes.code})` };
  }
  if (bytes.length > MAX_KEY_FILE_BYTES) return undefined;
  const text = bytes.toString('latin1');
  const found = inspectKeyFile(text);
  if (found.type === 'pkcs8') return { path, text, encrypted: false, publicOnly: false, unusable: PKCS8 };
  if (found.type === 'unusable') return { path, text, encrypted: false, publicOnly: false, unusable: found.reason };
  if (found.type === 'public') return { path, text, encrypted: false, publicOnly: true, publicKey: found.publicKey };
  const open = await openToOthers(path);
  if (open !== undefined) return { path, text: '', encrypted: false, publicOnly: false, unusable: open };
  const publicKey = found.publicKey ?? (await readPublicHalf(path))?.publicKey ?? derivePublicKey(text);
  const certified = existsSync(`${path}-cert.pub`);
  return { path, text, encrypted: found.encrypted, publicOnly: false, certified, ...(publicKey ? { publicKey } : {}) };
}

/** Why a private key of ours that others may read is passed over, as ssh does; undefined when they may not. */
async function openToOthers(path: string): Promise<string | undefined> {
  const { uid, mode } = await stat(path);
  if (uid !== process.getuid?.() || (mode & 0o077) === 0) return undefined;
  const octal = (mode & 0o777).toString(8).padStart(4, '0');
  return `is passed over: others may read it (mode ${octal}); chmod 600 it`;
}

/** `PATH.pub`, which may stand for a private key that lives in the agent alone. */
async function readPublicHalf(path: string): Promise<FoundFile | undefined> {
  const text = await readFile(`${path}.pub`, 'latin1').catch(() => undefined);
  const found = text === undefined ? undefined : inspectKeyFile(text);
  if (text === undefined || found?.type !== 'public') return undefined;
  return { path, text, encrypted: false, publicOnly: true, publicKey: found.publicKey };
}

function derivePublicKey(text: string): Buffer | undefined {
  const parsed = ssh2.utils.parseKey(text);
  return parsed instanceof Error ? undefined : parsed.getPublicSSH();
}

function fileIdentity(file: FoundFile, host: ResolvedHost, notices: string[]): Identity | undefined {
  const { publicKey } = file;
  if (file.unusable !== undefined) {
    notices.push(`${file.path} ${file.unusable}`);
    return undefined;
  }
  if (file.certified === true) notices.push(`${file.path}-cert.pub is a certificate: ${NEEDS_OPENSSH}`);
  if (file.publicOnly) {
    notices.push(`${file.path} is a public key whose private half is neither in a file nor in the agent`);
    return undefined;
  }
  if (publicKey === undefined) {
    notices.push(
      `${file.path} is encrypted, without a .pub file beside it, and not in the agent: ssh-add ${file.path}`,
    );
    return undefined;
  }
  if (!USABLE_TYPES.test(keyType(publicKey) ?? '')) {
    notices.push(`${file.path} is of type ${keyType(publicKey)}: ${NEEDS_OPENSSH}`);
    return undefined;
  }
  return {
    label: label(file.path, publicKey),
    publicKey,
    async sign(data, hash) {
      const passphrase = file.encrypted ? await askPassphrase(file.path, host.passphraseCommand) : undefined;
      const key = ssh2.utils.parseKey(file.text, passphrase);
      if (key instanceof Error) throw new Error(`${file.path} cannot be opened: ${key.message}`);
      const signature: Buffer | Error = key.sign(data, hash);
      if (signature instanceof Error) throw signature;
      return signature;
    },
  };
}

function askPassphrase(path: string, command: readonly string[] | undefined): Promise<string> {
  const [program, ...rest] = command ?? [];
  if (program === undefined) {
    return Promise.reject(new Error(`${path} is encrypted and not in the agent: ssh-add ${path}`));
  }
  return new Promise((resolve, reject) => {
    const child = execFile(program, [...rest, path], (error, stdout) => {
      if (error !== null) reject(new Error(`the passphrase command for ${path} failed: ${error.message}`));
      else resolve(stdout.replace(/\r?\n$/, ''));
    });
    child.stdin?.end();
  });
}
