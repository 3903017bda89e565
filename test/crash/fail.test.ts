import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Disk } from '@postern/spool';
import { expect, onTestFinished, test } from 'vitest';
import { drain, FATES, live, logLines, missing, quickDisk, worldAt } from './world.ts';

/** A disk whose `at`th step fails; `half`: after the fact, as when the answer was lost. */
function failing(at: number, code: string, half: boolean): { disk: Disk; steps(): number } {
  let count = 0;
  const entries = Object.entries(quickDisk).map(([name, real]) => [
    name,
    async (...args: unknown[]) => {
      const mine = ++count === at && name !== 'close';
      const fail = (): Error => Object.assign(new Error(`${code}: ${name}`), { code });
      if (mine && !half) throw fail();
      const result: unknown = await (real as (...args: unknown[]) => Promise<unknown>)(...args);
      if (!mine) return result;
      if (typeof result === 'number' && name !== 'freeBytes') await quickDisk.close(result);
      throw fail();
    },
  ]);
  return { disk: Object.fromEntries(entries) as Disk, steps: () => count };
}

async function oneLife(
  at: number,
  code: string,
  half: boolean,
): Promise<{ steps: number; acked: number; lost: string[] }> {
  const dir = await mkdtemp(join(tmpdir(), 'fail-'));
  const clean = (): Promise<void> => rm(dir, { recursive: true, force: true });
  onTestFinished(clean);
  const world = worldAt(dir);
  const { disk, steps } = failing(at, code, half);
  const life = await live(world, disk).catch(() => undefined);
  if (life !== undefined) {
    for (const marker of ['m1', 'm2']) await life.send(marker).catch(() => {});
    for (let turn = 0; turn < 20 && [...life.spool.entries()].length > 0; turn++) {
      await life.runner.idle();
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    await life.close().catch(() => {});
  }
  // A spool that failed to release its lock is taken over only when its process is dead; this one lives.
  const { readdirSync, truncateSync } = await import('node:fs');
  try {
    for (const name of readdirSync(world.spool))
      if (name.startsWith('owner.')) truncateSync(join(world.spool, name), 0);
  } catch {}
  await drain(world, quickDisk);
  const result = { steps: steps(), acked: logLines(world.acked).length, lost: await missing(world, quickDisk) };
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
    const whole = await oneLife(0, code, half);
    expect(whole).toMatchObject({ acked: 2, lost: [] });
    expect(whole.steps).toBeGreaterThan(60);
    for (let at = 1; at <= whole.steps; at++) {
      const { lost } = await oneLife(at, code, half);
      expect({ at, lost }).toEqual({ at, lost: [] });
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
