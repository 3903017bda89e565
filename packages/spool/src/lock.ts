/**
 * One owner per spool. The lock is the file `owner.N` with the highest N; it holds its owner's mark. To take a dead or
 * released one over, a process links `owner.N+1` into place, which only one can, and then looks again: it owns the
 * spool only when no higher number has appeared. The highest file is never removed, only released, so numbers never go
 * back and two processes that saw the same dead owner cannot both win. Survives kill -9, reboots and number reuse.
 *
 * Of an owner in another pid namespace or on another machine nothing is known but that it touches its file: it is dead
 * when that has not changed while it was watched for {@link WATCH_MS}. No clock is compared with another, since any may
 * be set in between, and the machine may have slept. An owner that was stopped for so long finds its file gone when it
 * wakes, and writes nothing more.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { defined, type Env, SpoolError, sleep } from '@postern/core';
import { type Disk, errno, unlinkIfThere } from './durable.ts';
import { liveness, ownMark, type ProcessMark } from './process.ts';

const NAME = /^owner\.(\d{1,15})$/;
/** A mark on its way to its place; what dead processes left of them is swept. */
const DRAFT = /^draft\./;
/** How often an owner touches its file, and how long one of which nothing else is known is watched. */
const TOUCH_MS = 15_000;
export const WATCH_MS: number = 3 * TOUCH_MS;
const WATCH_STEP_MS = 1_000;
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

/** Whether nobody owns the spool; takes up to {@link WATCH_MS}. */
async function isFree(dir: string, lock: LockFile, env: Env): Promise<boolean> {
  if (lock.mark === undefined || lock.mark.released) return true;
  const life = liveness(lock.mark);
  return life === 'dead' || (life === 'unknown' && (await isSilent(dir, lock, env)));
}

/** Watches an owner's file; false as soon as anything happens to it. */
async function isSilent(dir: string, lock: LockFile, env: Env): Promise<boolean> {
  const { signal } = new AbortController();
  // The clock's own timers do not keep a process alive, and there may be nothing else yet.
  const awake = setInterval(() => {}, WATCH_MS);
  try {
    for (let waited = 0; waited < WATCH_MS; waited += WATCH_STEP_MS) {
      await sleep(env, WATCH_STEP_MS, signal);
      const now = await highest(dir);
      if (now?.number !== lock.number || now.touched !== lock.touched) return false;
    }
    return true;
  } finally {
    clearInterval(awake);
  }
}

async function writeMark(disk: Disk, path: string, mark: object): Promise<void> {
  const fd = await disk.create(path);
  try {
    await disk.write(fd, Buffer.from(`${JSON.stringify(mark)}\n`), 0);
  } finally {
    await disk.close(fd);
  }
}

/**
 * Takes ownership of `dir`, or rejects with `SpoolError` `busy`. `onLost`: another process has taken it over, thinking
 * this one dead.
 */
export async function takeOwnership(
  dir: string,
  { disk, env, onLost }: { disk: Disk; env: Env; onLost: () => void },
): Promise<Ownership> {
  const draft = join(dir, `draft.${process.pid}.${Math.random().toString(36).slice(2)}`);
  await writeMark(disk, draft, ownMark());
  try {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const current = await highest(dir);
      if (current !== undefined && !(await isFree(dir, current, env))) throw busy(dir, current);
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
      await sweep(disk, dir, number);
      const takenFrom = current?.mark !== undefined && !current.mark.released ? current.mark.pid : undefined;
      return { ...defined({ takenFrom }), release: keep(dir, path, { disk, env, onLost }) };
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

/** Removes the marks of earlier owners and the drafts of dead processes. */
async function sweep(disk: Disk, dir: string, number: number): Promise<void> {
  for (const name of await readdir(dir)) {
    const path = join(dir, name);
    const other = Number(NAME.exec(name)?.[1] ?? number);
    if (other < number || (DRAFT.test(name) && (await isLeft(path)))) await unlinkIfThere(disk, path);
  }
}

async function isLeft(draft: string): Promise<boolean> {
  const mark = parseMark(await readFile(draft, 'utf8').catch(() => ''));
  return mark !== undefined && liveness(mark) === 'dead';
}

/** Touches the file until released; releasing puts a released mark in its place. */
function keep(
  dir: string,
  path: string,
  { disk, env, onLost }: { disk: Disk; env: Env; onLost: () => void },
): () => Promise<void> {
  let lost = false;
  let timer: Disposable | undefined;
  let touching: Promise<void> = Promise.resolve();
  const arm = (): void => {
    timer = env.schedule(TOUCH_MS, () => {
      touching = disk.touch(path).then(arm, (error: unknown) => {
        lost = errno(error) === 'ENOENT';
        if (lost) onLost();
        else arm();
      });
    });
  };
  arm();
  return async () => {
    timer?.[Symbol.dispose]();
    await touching;
    timer?.[Symbol.dispose]();
    if (lost) return;
    const draft = join(dir, `draft.${process.pid}.released`);
    await unlinkIfThere(disk, draft);
    await writeMark(disk, draft, { ...ownMark(), released: true });
    await disk.rename(draft, path);
  };
}
