/** What is written for the account belongs to it, with a mode that no umask changes. */
import { chmod, chown, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';

/** Whose files they are; `as` is to be given to `spawn`: set only when the caller is root. */
export interface Owner {
  uid: number;
  gid: number;
  as: { uid: number; gid: number } | Record<string, never>;
}

/** Gives a path to the account; does nothing when the account is the caller. */
export async function giveTo(owner: Owner, path: string): Promise<void> {
  if ('uid' in owner.as) await chown(path, owner.uid, owner.gid);
}

/** Writes a file of the account's, whatever the umask. */
export async function writeOwned(owner: Owner, path: string, text: string, mode = 0o644): Promise<void> {
  await writeFile(path, text);
  await chmod(path, mode);
  await giveTo(owner, path);
}

/** Makes a directory of the account's, mode 0700; it may exist. */
export async function makeOwned(owner: Owner, path: string): Promise<void> {
  await mkdir(path, { recursive: true });
  await chmod(path, 0o700);
  await giveTo(owner, path);
}

/** Makes every directory between `top`, which exists, and the file. */
export async function makeOwnedParents(owner: Owner, top: string, file: string): Promise<void> {
  let at = top;
  for (const name of relative(top, dirname(file)).split('/').filter(Boolean)) {
    at = join(at, name);
    await makeOwned(owner, at);
  }
}
