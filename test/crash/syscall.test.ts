import { execFileSync, spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodeDisk } from '@postern/spool';
import { expect, onTestFinished, test } from 'vitest';
import { bundleWorker } from './bundle.ts';
import { drain, logLines, missing, worldAt } from './world.ts';

/** The calls that change what is on the disk; Node makes the others of its own, too. */
const SYSCALLS = ['pwrite64', 'fsync', 'fdatasync', 'rename', 'link', 'unlink', 'mkdir', 'ftruncate'] as const;
/** More than any of them is made in one short life. */
const MOST = 200;

/** Why it cannot be tried here. */
function obstacle(): string | undefined {
  try {
    execFileSync('strace', ['-f', '-qq', '-o', '/dev/null', '-e', 'inject=fsync:signal=KILL:when=999', 'true'], {
      stdio: 'ignore',
    });
    return undefined;
  } catch {
    return 'SKIPPED, no strace that may trace';
  }
}

const why = obstacle();

test.skipIf(why !== undefined)(
  `kill -9 at every syscall that changes the disk loses nothing ${why ?? ''}`,
  async () => {
    const dir = await mkdtemp(join(tmpdir(), 'syscall-'));
    onTestFinished(() => rm(dir, { recursive: true, force: true }));
    const worker = await bundleWorker(dir);
    let kills = 0;
    for (const syscall of SYSCALLS) {
      for (let when = 1; when <= MOST; when++) {
        const world = worldAt(join(dir, `${syscall}${when}`));
        await mkdir(world.dir);
        // strace counts for each thread: one worker thread makes all calls of the disk.
        const { status, signal } = spawnSync(
          'strace',
          [
            '-f',
            '-qq',
            '-o',
            '/dev/null',
            '-e',
            `trace=${syscall}`,
            '-e',
            `inject=${syscall}:signal=KILL:when=${when}`,
            process.execPath,
            worker,
            world.dir,
            '2',
          ],
          { env: { ...process.env, UV_THREADPOOL_SIZE: '1' }, stdio: ['ignore', 'ignore', 'inherit'] },
        );
        const killed = signal === 'SIGKILL' || status === 137;
        if (killed) kills++;
        else expect({ syscall, when, status }).toEqual({ syscall, when, status: 0 });
        await drain(world, nodeDisk);
        expect({ syscall, when, lost: await missing(world, nodeDisk) }).toEqual({ syscall, when, lost: [] });
        if (!killed) {
          expect(logLines(world.acked)).toHaveLength(2);
          break;
        }
      }
    }
    expect(kills).toBeGreaterThan(40);
  },
  1_200_000,
);
