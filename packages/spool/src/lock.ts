import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Env, SpoolError } from '@postern/core';
import { type Disk, errno, unlinkIfThere } from './durable.ts';
import { liveness, ownMark, type ProcessMark } from './process.ts';

/**
 * One owner per spool. The lock is the file `owner.N` with the highest N; it holds its owner's mark. To take a dead or released one
 * over, a process links `owner.N+1` into place, which only one can, and then looks again: it owns the spool only when no higher
 * number has appeared. The highest file is never removed, only released, so numbers never go back and two processes that saw the same dead owner
 * cannot both win. Survives kill -9, reboots and number reuse; an owner in another pid namespace is dead when it has not touched
 * its file for {@link STALE_MS}.
 */
const NAME = /^owner\.(\d{1,15})$/;
/** How often an owner touches its file, and after how long silence counts as death across pid namespaces. */
const TOUCH_MS = 15_000;
export const STALE_MS = 90_000;
const MAX_TRIES = 100;

/** Ownership of a spool. */
export interface Ownership {
  /** Pid of the dead owner it was taken from. */
  readonly takenFrom?: number;
  release(): Promise<void>;
}

interface LockFile {
  readonly number: number;
  readonly mark: (ProcessMark & { released?: boolean }) | undefined;
  readonly touched: number;
}

async function highest(dir: string): Promise<LockFile | undefined> {
  const numbers = (await readdir(dir)).map((name) => Number(NAME.exec(name)?.[1] ?? 0));
  const number = Math.max(0, ...numbers);
  if (number === 0) return undefined;
  const path = join(dir, `owner.${number}`);
  try {
    const [text, { mtimeMs }] = await Promise.all([readFile(path, 'utf8'), stat(path)]);
    return { number, mark: parseMark(text), touched: mtimeMs };
  } catch (error) {
    if (errno(error) === 'ENOENT') return await highest(dir);
    throw error;
  }
}

/** An unreadable mark is one that a power cut emptied: its owner is dead. */
function parseMark(text: string): LockFile['mark'] {
  try {
    return JSON.parse(text) as ProcessMark;
  } catch {
    return undefined;
  }
}

function isFree(lock: LockFile): boolean {
  if (lock.mark === undefined || lock.mark.released) return true;
  const life = liveness(lock.mark);
  return life === 'dead' || (life === 'unknown' && Date.now() - lock.touched > STALE_MS);
}

async function writeMark(disk: Disk, path: string, mark: object): Promise<void> {
  const fd = await disk.create(path);
  try {
    await disk.write(fd, Buffer.from(`${JSON.stringify(mark)}\n`), 0);
  } finally {
    await disk.close(fd);
  }
}

/** Takes ownership of `dir`, or rejects with `SpoolError` `busy`. */
export async function takeOwnership(disk: Disk, dir: string, env: Env): Promise<Ownership> {
  const draft = join(dir, `draft.${process.pid}.${Math.random().toString(36).slice(2)}`);
  await writeMark(disk, draft, ownMark());
  try {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const current = await highest(dir);
      if (current !== undefined && !isFree(current)) throw busy(dir, current);
      const number = (current?.number ?? 0) + 1;
      const path = join(dir, `owner.${number}`);
      const won = await disk.link(draft, path).then(
        () => true,
        (error: unknown) => {
          if (errno(error) === 'EEXIST') return false;
          throw error;
        },
      );
      if (!won) continue;
      if ((await highest(dir))?.number !== number) {
        await unlinkIfThere(disk, path);
        continue;
      }
      await removeLower(disk, dir, number);
      const takenFrom = current?.mark !== undefined && !current.mark.released ? current.mark.pid : undefined;
      return { ...(takenFrom === undefined ? {} : { takenFrom }), release: keep(disk, dir, path, env) };
    }
  } finally {
    await unlinkIfThere(disk, draft);
  }
  throw new SpoolError(`the spool ${dir} changes owners without end`, { code: 'busy' });
}

function busy(dir: string, lock: LockFile): SpoolError {
  const owner = `process ${lock.mark?.pid ?? '?'}`;
  return new SpoolError(`the spool ${dir} is in use by ${owner} (see ${join(dir, `owner.${lock.number}`)})`, {
    code: 'busy',
  });
}

async function removeLower(disk: Disk, dir: string, number: number): Promise<void> {
  for (const name of await readdir(dir)) {
    const other = Number(NAME.exec(name)?.[1] ?? number);
    if (other < number) await unlinkIfThere(disk, join(dir, name));
  }
}

/** Touches the file until released; releasing puts a released mark in its place. */
function keep(disk: Disk, dir: string, path: string, env: Env): () => Promise<void> {
  let timer: Disposable | undefined;
  let touching: Promise<void> = Promise.resolve();
  const arm = (): void => {
    timer = env.schedule(TOUCH_MS, () => {
      touching = disk.touch(path).catch(() => {});
      arm();
    });
  };
  arm();
  return async () => {
    timer?.[Symbol.dispose]();
    await touching;
    const draft = join(dir, `draft.${process.pid}.released`);
    await unlinkIfThere(disk, draft);
    await writeMark(disk, draft, { ...ownMark(), released: true });
    await disk.rename(draft, path);
  };
}
