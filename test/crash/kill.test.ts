import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { seededRandom } from '@postern/testkit';
import { expect, onTestFinished, test } from 'vitest';
import { setting } from '../queue/size.ts';
import { bundleWorker } from './bundle.ts';
import { drain, logLines, missing, quickDisk, repeated, worldAt } from './world.ts';

/** How many lives are ended: `POSTERN_KILLS=10000 npx vitest run test/crash/kill` for the long run. */
const KILLS = setting('POSTERN_KILLS', process.env.CI ? 1000 : 150);
/** Lives of one world: what its deaths leave in doubt piles up, and each one looks at all of it. Two worlds go on side by side. */
const LIVES = Math.min(25, KILLS);
const SIDE_BY_SIDE = 2;
/** Steps forward a life may make at most, however slow the machine is, and how long after the last one it ends at most. */
const STEPS = 60;
const LAST_MS = 5;
/** One life in ten is ended while it recovers, up to so long after its start. */
const START_MS = 300;

/** Resolves when so many bytes have come, or no more will. */
function progress(stream: Readable, bytes: number): Promise<void> {
  return new Promise((resolve) => {
    let seen = 0;
    stream.on('data', (chunk: Buffer) => {
      seen += chunk.length;
      if (seen > bytes) resolve();
    });
    stream.on('end', resolve);
  });
}

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
    for (let kills = 0; kills < LIVES; kills++) {
      const child = spawn(process.execPath, [worker, world.dir, '', random() < 0.8 ? 'quick' : ''], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const exit = once(child, 'exit');
      const starting = random() < 0.1;
      if (!starting) await progress(child.stdout, random() * STEPS);
      const timer = setTimeout(() => child.kill('SIGKILL'), random() * (starting ? START_MS : LAST_MS));
      const [code, signal] = (await exit) as [number | null, string | null];
      clearTimeout(timer);
      expect({ kills, seed, code, signal }).toEqual({ kills, seed, code: null, signal: 'SIGKILL' });
    }
    await drain(world, quickDisk);
    return { acked: logLines(world.acked).length, lost: await missing(world, quickDisk), ...repeated(world), seed };
  };
  const results: Awaited<ReturnType<typeof oneWorld>>[] = [];
  let worlds = 0;
  const some = async (): Promise<void> => {
    while (worlds * LIVES < KILLS) results.push(await oneWorld(worlds++));
  };
  await Promise.all(Array.from({ length: SIDE_BY_SIDE }, some));
  const sum = (of: (result: (typeof results)[number]) => number): number =>
    results.reduce((total, result) => total + of(result), 0);
  const acked = sum((result) => result.acked);
  process.stdout.write(
    `kills ${KILLS}, acknowledged ${acked}, recipients lost ${sum(({ lost }) => lost.length)}, delivered twice ` +
      `${sum(({ twice }) => twice)}, ${Math.round((performance.now() - started) / 1000)} s\n`,
  );
  for (const result of results) expect(result).toMatchObject({ lost: [], inOneLife: [] });
  expect(acked).toBeGreaterThan(KILLS);
}, 14_400_000);
