import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, constants as fsConstants } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type EntryId, systemEnv } from '@postern/core';
import { openSpool } from '@postern/spool';
import { expect, onTestFinished, test } from 'vitest';
import { bundle } from './bundle.ts';
import type { Planted } from './model.ts';

/**
 * Real power cuts: a spool on a loop mount; at the moment of each promise the backing file is copied, as the disk would be found after the cut, and a
 * spool is opened on the copy. Needs root, loop devices and the filesystem's mkfs.
 */
interface FileSystem {
  readonly name: string;
  readonly mkfs: readonly string[];
  readonly megabytes: number;
  readonly options: string;
  /** What a boot after a power cut runs before it is mounted. */
  readonly repair?: string;
}

const FILE_SYSTEMS: readonly FileSystem[] = [
  { name: 'ext4', mkfs: ['mkfs.ext4', '-q', '-F'], megabytes: 32, options: 'loop,commit=300' },
  { name: 'xfs', mkfs: ['mkfs.xfs', '-q', '-f'], megabytes: 320, options: 'loop,nouuid' },
  { name: 'ext2', mkfs: ['mkfs.ext2', '-q', '-F'], megabytes: 32, options: 'loop', repair: 'fsck.ext2' },
  { name: 'btrfs', mkfs: ['mkfs.btrfs', '-q', '-f'], megabytes: 128, options: 'loop,commit=300' },
];

/** Why a filesystem cannot be tried here; undefined when it can. */
function obstacle({ name, mkfs }: FileSystem): string | undefined {
  if (process.getuid?.() !== 0) return 'not root';
  try {
    execFileSync(
      'sh',
      ['-c', `command -v ${mkfs[0]} && losetup -f && { grep -qw ${name} /proc/filesystems || modprobe ${name}; }`],
      {
        stdio: 'ignore',
      },
    );
    return undefined;
  } catch {
    return `no ${mkfs[0]}, loop device or kernel support`;
  }
}

const quietly = (command: string, ...args: string[]): void => void execFileSync(command, args, { stdio: 'ignore' });

/** A promise the life has made, as it prints it. */
type Line = { readonly type: 'kept' | 'removed' | 'attempt'; readonly id: EntryId };

/** What is missing on a copy of the disk. */
async function inspect(
  image: string,
  { mount, fileSystem, promised }: { mount: string; fileSystem: FileSystem; promised: readonly Line[] },
): Promise<string[]> {
  const { options, repair } = fileSystem;
  if (repair !== undefined) spawnSync(repair, ['-fy', image], { stdio: 'ignore' });
  quietly('mount', '-o', options, image, mount);
  try {
    const faults: string[] = [];
    const spool = await openSpool({ dir: join(mount, 'state', 'spool'), env: systemEnv, keepFreeBytes: 0 });
    const removed = new Set(promised.filter(({ type }) => type === 'removed').map(({ id }) => id));
    for (const { type, id } of promised) {
      const state = spool.get(id);
      if (type === 'removed' && state !== undefined) faults.push('came back');
      if (removed.has(id)) continue;
      if (state === undefined) faults.push('lost');
      else if (type === 'attempt' && state.attempts === 0) faults.push('forgot an attempt');
    }
    for (const { id } of spool.entries()) {
      try {
        for await (const _ of spool.read(id));
      } catch {
        faults.push('lost');
      }
    }
    await spool.close();
    return faults;
  } finally {
    quietly('umount', mount);
  }
}

/** Lives on a fresh filesystem and cuts the power at every promise. */
async function cutAtEveryPromise(
  fileSystem: FileSystem,
  fault: Planted | '',
): Promise<{ cuts: number; faults: Set<string> }> {
  const root = await mkdtemp(join(tmpdir(), 'image-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  const [image, copy, live, after] = ['disk', 'copy', 'live', 'after'].map((name) => join(root, name)) as [
    string,
    string,
    string,
    string,
  ];
  await mkdir(live);
  await mkdir(after);
  quietly('truncate', '-s', `${fileSystem.megabytes}M`, image);
  const [mkfs = '', ...args] = fileSystem.mkfs;
  quietly(mkfs, ...args, image);
  quietly('mount', '-o', fileSystem.options, image, live);
  const worker = await bundle(fileURLToPath(new URL('./promises.ts', import.meta.url)), join(root, 'promises.mjs'));
  const faults = new Set<string>();
  const promised: Line[] = [];
  let cuts = 0;
  try {
    const child = spawn(process.execPath, [worker, join(live, 'state', 'spool'), fault], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const exit = once(child, 'exit');
    for await (const text of createInterface({ input: child.stdout })) {
      promised.push(JSON.parse(text) as Line);
      copyFileSync(image, copy, fsConstants.COPYFILE_FICLONE);
      for (const found of await inspect(copy, { mount: after, fileSystem, promised }).catch(() => ['lost']))
        faults.add(found);
      cuts++;
      child.stdin.write('\n');
    }
    await exit;
  } finally {
    quietly('umount', live);
  }
  return { cuts, faults };
}

for (const fileSystem of FILE_SYSTEMS) {
  const why = obstacle(fileSystem);
  const title = why === undefined ? fileSystem.name : `${fileSystem.name}: SKIPPED, ${why}`;
  test.skipIf(why !== undefined)(
    `a power cut at any promise loses nothing (${title})`,
    async () => {
      const { cuts, faults } = await cutAtEveryPromise(fileSystem, '');
      expect([...faults]).toEqual([]);
      expect(cuts).toBe(12);
    },
    300_000,
  );

  // Parents that are not synced cannot be seen on any of these (tried on Linux 6.18): a new directory is in the same journal transaction as the names in it
  // (ext4, xfs), or its names upwards are written by its own sync (btrfs's log tree; ext2, where the ext4 driver syncs new parents for want of a journal).
  // POSIX promises none of that; the model of model.test.ts, which needs no root, finds all four plants.
  test.skipIf(why !== undefined).each<[Planted, string]>([
    ['no directory sync', 'lost'],
    ['no file sync', 'lost'],
    ['removal not synced', 'came back'],
  ])(
    `a spool with %s is found out (${title})`,
    async (fault, symptom) => {
      expect([...(await cutAtEveryPromise(fileSystem, fault)).faults]).toContain(symptom);
    },
    300_000,
  );
}
