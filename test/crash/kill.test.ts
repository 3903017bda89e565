import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodeDisk } from '@postern/spool';
import { seededRandom } from '@postern/testkit';
import { expect, onTestFinished, test } from 'vitest';
import { setting } from '../queue/size.ts';
import { bundleWorker } from './bundle.ts';
import { drain, logLines, missing, repeated, worldAt } from './world.ts';

/** How many lives are ended: `POSTERN_KILLS=10000 npx vitest run test/crash/kill` for the long run. */
const KILLS = setting('POSTERN_KILLS', process.env.CI ? 1000 : 150);
/** Worlds side by side. */
const WORLDS = 2;
/** A life lasts up to so long after it has begun; the start itself is hit too. */
const LIFE_MS = 60;

test(`kill -9 at ${KILLS} random moments under load loses nothing that was acknowledged`, async () => {
  const dir = await mkdtemp(join(tmpdir(), 'kill-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const worker = await bundleWorker(dir);
  const seed = setting('POSTERN_SEED', Date.now() % 1_000_000);
  const started = performance.now();
  const oneWorld = async (
    number: number,
  ): Promise<{ acked: number; lost: string[]; twice: number; inOneLife: string[]; seed: number }> => {
    const random = seededRandom(seed + number);
    const world = worldAt(join(dir, `world${number}`));
    await mkdir(world.dir);
    for (let kills = 0; kills < KILLS / WORLDS; kills++) {
      const child = spawn(process.execPath, [worker, world.dir], { stdio: ['ignore', 'pipe', 'inherit'] });
      const exit = once(child, 'exit');
      // One life in ten is ended while it recovers; the others from the moment they take mail.
      if (random() < 0.9) await Promise.race([once(child.stdout, 'data'), exit]);
      const timer = setTimeout(() => child.kill('SIGKILL'), random() * LIFE_MS);
      const [code, signal] = (await exit) as [number | null, string | null];
      clearTimeout(timer);
      expect({ kills, seed, code, signal }).toEqual({ kills, seed, code: null, signal: 'SIGKILL' });
    }
    await drain(world, nodeDisk);
    return { acked: logLines(world.acked).length, lost: await missing(world, nodeDisk), ...repeated(world), seed };
  };
  const results = await Promise.all(Array.from({ length: WORLDS }, (_, number) => oneWorld(number)));
  const sum = (of: (result: (typeof results)[number]) => number): number =>
    results.reduce((total, result) => total + of(result), 0);
  const acked = sum((result) => result.acked);
  process.stdout.write(
    `kills ${KILLS}, acknowledged ${acked}, recipients lost ${sum(({ lost }) => lost.length)}, delivered twice ` +
      `${sum(({ twice }) => twice)}, ${Math.round((performance.now() - started) / 1000)} s\n`,
  );
  for (const result of results) expect(result).toMatchObject({ lost: [], inOneLife: [] });
  expect(acked).toBeGreaterThan(KILLS);
}, 7_200_000);
