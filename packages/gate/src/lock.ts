/** One process at a time fills the cache, and a lock whose owner is dead is taken over. */
import { randomBytes } from 'node:crypto';
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

/** How often a taken lock is looked at again. */
const LOCK_POLL_MS = 100;

/**
 * Runs `work` while holding a lock file that names this process. A dead owner's lock is taken over. Only saves double work: two
 * holders in a rare race of takeovers do no harm, as what the lock guards appears by rename.
 */
export async function withLock<T>(path: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  const mine = `${path}.${process.pid}.${randomBytes(6).toString('hex')}`;
  await writeFile(mine, String(process.pid));
  try {
    while (!(await take(mine, path))) {
      await breakIfDead(path);
      await delay(LOCK_POLL_MS, undefined, signal === undefined ? {} : { signal });
    }
    try {
      return await work();
    } finally {
      await rm(path, { force: true });
    }
  } finally {
    await rm(mine, { force: true });
  }
}

/** `link` fails when the name exists, on every filesystem, and the content is there from the first moment. */
async function take(mine: string, path: string): Promise<boolean> {
  try {
    await link(mine, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

async function breakIfDead(path: string): Promise<void> {
  const owner = Number(await readFile(path, 'utf8').catch(() => ''));
  if (!Number.isInteger(owner) || owner <= 0 || alive(owner)) return;
  const aside = `${path}.dead.${randomBytes(6).toString('hex')}`;
  await rename(path, aside).catch(() => undefined);
  await rm(aside, { force: true });
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
