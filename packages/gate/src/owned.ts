import { chmod, chown, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import type { Account } from './account.ts';

/** Gives a path to the account; does nothing when the account is the caller. */
export async function giveTo(account: Account, path: string): Promise<void> {
  if ('uid' in account.as) await chown(path, account.uid, account.gid);
}

/** Writes a file of the account's, whatever the umask. */
export async function writeOwned(account: Account, path: string, text: string, mode = 0o644): Promise<void> {
  await writeFile(path, text);
  await chmod(path, mode);
  await giveTo(account, path);
}

/** Makes a directory of the account's, mode 0700; it may exist. */
export async function makeOwned(account: Account, path: string): Promise<void> {
  await mkdir(path, { recursive: true });
  await chmod(path, 0o700);
  await giveTo(account, path);
}

/** Makes every directory between `top`, which exists, and the file. */
export async function makeOwnedParents(account: Account, top: string, file: string): Promise<void> {
  let at = top;
  for (const name of relative(top, dirname(file)).split('/').filter(Boolean)) {
    at = join(at, name);
    await makeOwned(account, at);
  }
}
