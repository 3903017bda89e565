/** Key pairs on disk, made by ssh-keygen. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { GateError } from './errors.ts';
import type { Program } from './programs.ts';
import { run } from './run.ts';

/** Key types that `ssh-keygen -t` takes and a gate makes. */
export type KeyType = 'ed25519' | 'ecdsa' | 'rsa';

/** A key pair on disk. */
export interface KeyFile {
  /** The private key, OpenSSH format, mode 0600; the public one lies beside it as `.pub`. */
  path: string;
  /** `ssh-ed25519 AAAA…`, as in known_hosts and authorized_keys, without comment. */
  publicKey: string;
  /** `SHA256:…`, as `ssh-keygen -l` prints it. */
  fingerprint: string;
}

/** Makes a key pair with `ssh-keygen`, that of `client` or the one in PATH, without a passphrase unless one is given. */
export async function makeKey(
  path: string,
  o: { type?: KeyType; passphrase?: string; comment?: string; client?: Program } = {},
): Promise<KeyFile> {
  const args = [
    '-q',
    '-t',
    o.type ?? 'ed25519',
    '-N',
    o.passphrase ?? '',
    '-C',
    o.comment ?? 'postern gate',
    '-f',
    path,
  ];
  const beside = o.client && join(dirname(o.client.command), 'ssh-keygen');
  // Debian 14 has it in a package of its own, which may be installed while the client is not.
  const command = beside !== undefined && existsSync(beside) ? beside : 'ssh-keygen';
  const made = await run(command, args, { env: { ...process.env, ...o.client?.env } }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      const fix = 'apt-get install openssh-client';
      throw new GateError('program_missing', 'ssh-keygen is not installed', { cause: error, fix });
    },
  );
  if (made.code !== 0) throw new GateError('start_failed', `ssh-keygen: ${made.stderr.trim() || made.stdout.trim()}`);
  const [algorithm = '', blob = ''] = (await readFile(`${path}.pub`, 'utf8')).split(' ');
  const digest = createHash('sha256').update(Buffer.from(blob, 'base64')).digest('base64').replace(/=+$/, '');
  return { path, publicKey: `${algorithm} ${blob}`, fingerprint: `SHA256:${digest}` };
}
