/** The local password: generated, kept 0600, compared in constant time, never printed by itself. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf, PosternError } from '../base/errors.ts';
import { writePrivateFile } from '../base/private-file.ts';

/** 128 bits, as 22 characters of base64url: nothing a client's settings dialogue could trip over. */
const SECRET_OCTETS = 16;

/** The file that holds the local password, 0600. */
export function passwordFile(stateDir: string): string {
  return join(stateDir, 'password');
}

/** The local password, made when there is none yet. Throws {@link PosternError} `io` or `no-permission`. */
export function ensurePassword(stateDir: string): string {
  return readPassword(stateDir) ?? rotatePassword(stateDir);
}

/** Makes a new local password; the old one ends at once, in a running daemon too. Throws {@link PosternError} `io`. */
export function rotatePassword(stateDir: string): string {
  const secret = randomBytes(SECRET_OCTETS).toString('base64url');
  const file = passwordFile(stateDir);
  try {
    writePrivateFile(file, `${secret}\n`);
  } catch (error) {
    throw new PosternError('io', `the local password cannot be written to ${file} (${errnoOf(error)})`, {
      cause: error,
    });
  }
  return secret;
}

function readPassword(stateDir: string): string | undefined {
  const file = passwordFile(stateDir);
  try {
    const mode = statSync(file).mode & 0o777;
    if ((mode & 0o077) !== 0) {
      throw new PosternError('no-permission', `others can read the local password in ${file}`, {
        fix: 'postern password --rotate   makes a new one that they cannot',
      });
    }
    const secret = readFileSync(file, 'utf8').trim();
    return secret === '' ? undefined : secret;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    if (error instanceof PosternError) throw error;
    throw new PosternError('io', `the local password in ${file} cannot be read (${errnoOf(error)})`, { cause: error });
  }
}

/** True when `given` is the local password. Reads the file anew, so a rotation counts at once; compares in constant time. */
export function verifyPassword(stateDir: string, given: string): boolean {
  let secret: string | undefined;
  try {
    secret = readPassword(stateDir);
  } catch {
    return false;
  }
  if (secret === undefined) return false;
  const digest = (text: string): Buffer => createHash('sha256').update(text, 'utf8').digest();
  return timingSafeEqual(digest(secret), digest(given));
}
