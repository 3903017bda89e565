import fs from 'node:fs';
import promises, { mkdtemp, rm } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Disk } from '@postern/spool';
import { expect, onTestFinished, test } from 'vitest';
import { drain, FATES, live, logLines, missing, quickDisk, repeated, type World, worldAt } from './world.ts';

/** Calls of one life, counted; the `at`th fails with `code`, or (`half`) after the fact, as when the answer was lost. */
class Steps {
  count = 0;
  readonly #fails: { at: number; code: string; half: boolean };
  constructor(fails: { at: number; code: string; half: boolean }) {
    this.#fails = fails;
  }

  /** What a step throws instead of being made, or after it. */
  next(name: string): { before?: Error; after?: Error } {
    const { at, code, half } = this.#fails;
    if (++this.count !== at) return {};
    const error = Object.assign(new Error(`${code}: ${name}`), { code });
    // A descriptor is closed whatever close(2) says.
    return half || name === 'close' ? { after: error } : { before: error };
  }
}

/** The disk, for what changes it. */
function failingDisk(steps: Steps): Disk {
  const entries = Object.entries(quickDisk).map(([name, real]) => [
    name,
    async (...args: unknown[]) => {
      const { before, after } = steps.next(name);
      if (before !== undefined) throw before;
      const result: unknown = await (real as (...args: unknown[]) => Promise<unknown>)(...args);
      if (after === undefined) return result;
      if (typeof result === 'number' && name !== 'freeBytes') await quickDisk.close(result);
      throw after;
    },
  ]);
  return Object.fromEntries(entries) as Disk;
}

type Call = (...args: unknown[]) => unknown;

/** Node's own calls, for what reads below `dir` and goes past the disk. Dispose to have them back. */
function failingReads(dir: string, steps: Steps): Disposable {
  const undo: (() => void)[] = [];
  const fds = new Set<unknown>();
  const isOurs = (what: unknown): boolean => fds.has(what) || (typeof what === 'string' && what.startsWith(dir));
  const replace = (module: object, name: string, make: (real: Call) => Call): void => {
    const calls = module as Record<string, Call>;
    const real = calls[name] as Call;
    calls[name] = make(real.bind(module));
    undo.push(() => {
      calls[name] = real;
    });
  };
  for (const name of ['openSync', 'readSync', 'fstatSync', 'readFileSync', 'readdirSync', 'statSync']) {
    replace(fs, name, (real) => (...args) => {
      const before = isOurs(args[0]) ? steps.next(name).before : undefined;
      if (before !== undefined) throw before;
      const result = real(...args);
      if (name === 'openSync' && isOurs(args[0])) fds.add(result);
      return result;
    });
  }
  replace(fs, 'closeSync', (real) => (fd) => {
    fds.delete(fd);
    return real(fd);
  });
  for (const name of ['readdir', 'readFile', 'stat', 'open']) {
    replace(promises, name, (real) => async (...args) => {
      const before = isOurs(args[0]) ? steps.next(name).before : undefined;
      if (before !== undefined) throw before;
      const result = await real(...args);
      if (name === 'open' && isOurs(args[0])) {
        for (const each of ['read', 'stat']) {
          replace(result as object, each, (call) => async (...rest) => {
            const { before: failure } = steps.next(each);
            if (failure !== undefined) throw failure;
            return await call(...rest);
          });
        }
      }
      return result;
    });
  }
  syncBuiltinESMExports();
  return {
    [Symbol.dispose]() {
      for (const each of undo) each();
      syncBuiltinESMExports();
    },
  };
}

/** A life on failing ground: mail is sent, and delivered as far as it goes. */
async function oneLife(
  world: World,
  { disk, steps }: { disk: Disk; steps: Steps },
  markers: readonly string[],
  deliver: boolean,
): Promise<void> {
  using _reads = failingReads(world.dir, steps);
  const life = await live(world, disk, { deliver }).catch(() => undefined);
  if (life === undefined) return;
  for (const marker of markers) await life.send(marker).catch(() => {});
  for (let turn = 0; deliver && turn < 20 && [...life.spool.entries()].length > 0; turn++) {
    await life.runner.idle();
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  await life.close().catch(() => {});
}

/** A spool that failed to release its lock is taken over only when its process is dead; this one lives. */
function abandon(world: World): void {
  for (const name of fs.existsSync(world.spool) ? fs.readdirSync(world.spool) : [])
    if (name.startsWith('owner.')) fs.truncateSync(join(world.spool, name), 0);
}

/** Mail that is taken in one life, recovered and delivered in the next, with one call of the two failing. */
async function twoLives(
  at: number,
  code: string,
  half: boolean,
): Promise<{ steps: number; acked: number; lost: string[]; setAside: string[]; inOneLife: string[] }> {
  const dir = await mkdtemp(join(tmpdir(), 'fail-'));
  const clean = (): Promise<void> => rm(dir, { recursive: true, force: true });
  onTestFinished(clean);
  const world = worldAt(dir);
  const steps = new Steps({ at, code, half });
  const disk = failingDisk(steps);
  await oneLife(world, { disk, steps }, ['m1'], false);
  abandon(world);
  await oneLife(world, { disk, steps }, ['m2'], true);
  abandon(world);
  await drain(world, quickDisk);
  const result = {
    ...{ steps: steps.count, acked: logLines(world.acked).length, lost: await missing(world, quickDisk) },
    ...{ setAside: fs.readdirSync(join(world.spool, 'corrupt')), inOneLife: repeated(world).inOneLife },
  };
  await clean();
  return result;
}

test.each([
  ['EIO', false],
  ['ENOSPC', false],
  ['EIO', true],
])(
  '%s at any step (after the fact: %s) loses nothing that was acknowledged',
  async (code, half) => {
    const whole = await twoLives(0, code, half);
    expect(whole).toMatchObject({ acked: 2, lost: [], setAside: [], inOneLife: [] });
    expect(whole.steps).toBeGreaterThan(150);
    for (let at = 1; at <= whole.steps; at++) {
      const { lost, setAside, inOneLife } = await twoLives(at, code, half);
      expect({ at, lost, setAside, inOneLife }).toEqual({ at, lost: [], setAside: [], inOneLife: [] });
    }
  },
  600_000,
);

test('the rig sees a message that is lost', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'fail-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const world = worldAt(dir);
  let renames = 0;
  const lossy: Disk = {
    ...quickDisk,
    rename: async (from, to) => (++renames === 1 ? quickDisk.unlink(from) : quickDisk.rename(from, to)),
  };
  const life = await live(world, lossy);
  await life.send('m1');
  await life.send('m2');
  await life.close();
  await drain(world, quickDisk);
  expect(await missing(world, quickDisk)).toEqual([...FATES.map((name) => `m1 ${name}@x.example`), 'm1 relayed']);
});
