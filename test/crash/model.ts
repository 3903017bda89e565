import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Disk, nodeDisk } from '@postern/spool';

/**
 * What POSIX promises of a disk at a power cut, and nothing more: contents are what was there at the file's last sync, names what was there at
 * their directory's last sync. Two adversaries: one loses every name change not synced, the other keeps them all; both lose contents not synced. Real
 * filesystems are kinder, so what survives here survives there.
 */
export interface Model {
  readonly disk: Disk;
  /** Writes what is left after a power cut now into the empty directory `into`. */
  cut(adversary: 'loses-names' | 'keeps-names', into: string): void;
}

interface Inode {
  readonly type: 'file' | 'directory';
  synced: Buffer;
}

type Names = Map<string, Inode>;

/** A {@link Model} of everything below `root`, which is durable itself. `before` is called before every step. */
export function createModel(root: string, before: (step: string) => void | Promise<void>): Model {
  const current: Names = new Map();
  const durable: Names = new Map();
  const open = new Map<number, string>();
  const paths = new Map<Inode, string>();
  const name = (path: string): string => path.slice(root.length);
  const place = (path: string, inode: Inode): void => {
    current.set(path, inode);
    paths.set(inode, path);
  };
  const syncFile = (fd: number): void => {
    const path = open.get(fd);
    const inode = path === undefined ? undefined : current.get(path);
    if (path === undefined || !path.startsWith(root)) return;
    if (inode?.type === 'file') inode.synced = readFileSync(path);
    else syncNames(path);
  };
  const syncNames = (directory: string): void => {
    for (const path of new Set([...current.keys(), ...durable.keys()])) {
      if (dirname(path) !== directory) continue;
      const inode = current.get(path);
      if (inode === undefined) durable.delete(path);
      else durable.set(path, inode);
    }
  };
  const step = async <T>(what: string, run: () => Promise<T>): Promise<T> => {
    await before(what);
    return await run();
  };
  const opened = (path: string, fd: number): number => {
    open.set(fd, path);
    if (!current.has(path) && path.startsWith(root)) place(path, { type: 'file', synced: Buffer.alloc(0) });
    return fd;
  };
  const disk: Disk = {
    ...nodeDisk,
    create: (path) => step(`create ${name(path)}`, async () => opened(path, await nodeDisk.create(path))),
    openForWrite: (path) => step(`open ${name(path)}`, async () => opened(path, await nodeDisk.openForWrite(path))),
    async openDirectory(path) {
      const fd = await nodeDisk.openDirectory(path);
      open.set(fd, path);
      return fd;
    },
    write: (fd, bytes, position) =>
      step(`write ${name(open.get(fd) ?? '')}`, () => nodeDisk.write(fd, bytes, position)),
    sync: (fd) =>
      step(`sync ${name(open.get(fd) ?? '')}`, async () => {
        await nodeDisk.sync(fd);
        syncFile(fd);
      }),
    syncData: (fd) =>
      step(`syncData ${name(open.get(fd) ?? '')}`, async () => {
        await nodeDisk.syncData(fd);
        syncFile(fd);
      }),
    rename: (from, to) =>
      step(`rename ${name(from)} ${name(to)}`, async () => {
        await nodeDisk.rename(from, to);
        const inode = current.get(from);
        current.delete(from);
        if (inode !== undefined) place(to, inode);
      }),
    link: (from, to) =>
      step(`link ${name(from)} ${name(to)}`, async () => {
        await nodeDisk.link(from, to);
        const inode = current.get(from);
        if (inode !== undefined) place(to, inode);
      }),
    unlink: (path) =>
      step(`unlink ${name(path)}`, async () => {
        await nodeDisk.unlink(path);
        current.delete(path);
      }),
    makeDirectory: (path) =>
      step(`mkdir ${name(path)}`, async () => {
        const made = await nodeDisk.makeDirectory(path);
        if (made) place(path, { type: 'directory', synced: Buffer.alloc(0) });
        return made;
      }),
  };
  return {
    disk,
    cut(adversary, into) {
      const names = adversary === 'loses-names' ? durable : current;
      rmSync(into, { recursive: true, force: true });
      mkdirSync(into, { recursive: true });
      for (const [path, inode] of [...names].sort(([a], [b]) => (a < b ? -1 : 1))) {
        const target = join(into, name(path));
        if (!existsAbove(target)) continue;
        if (inode.type === 'directory') mkdirSync(target, { mode: 0o700 });
        else writeFileSync(target, inode.synced);
      }
    },
  };
}

function existsAbove(path: string): boolean {
  try {
    readdirSync(dirname(path));
    return true;
  } catch {
    return false;
  }
}

/** Faults planted to see whether a test would find them. */
export type Planted =
  | 'no file sync'
  | 'no directory sync'
  | 'parents not synced'
  | 'removal not synced'
  | 'journal not synced';

/** A disk with a planted fault: it says it synced and did not. */
export function plant(disk: Disk, fault: Planted | undefined): Disk {
  const open = new Map<number, { path: string; directory: boolean }>();
  let removing = false;
  const skipped = (fd: number): boolean => {
    const { path = '', directory = false } = open.get(fd) ?? {};
    if (fault === 'no file sync') return !directory && path.includes('/tmp/');
    if (fault === 'no directory sync') return path.endsWith('/queue');
    if (fault === 'parents not synced') return directory && !path.endsWith('/queue');
    return fault === 'removal not synced' && path.endsWith('/queue') && removing;
  };
  const noted = (path: string, fd: number, directory: boolean): number => {
    open.set(fd, { path, directory });
    return fd;
  };
  return {
    ...disk,
    create: async (path) => noted(path, await disk.create(path), false),
    openForWrite: async (path) => noted(path, await disk.openForWrite(path), false),
    openDirectory: async (path) => noted(path, await disk.openDirectory(path), true),
    async unlink(path) {
      if (path.includes('/queue/')) removing = true;
      await disk.unlink(path);
    },
    async rename(from, to) {
      removing = false;
      await disk.rename(from, to);
    },
    async sync(fd) {
      if (!skipped(fd)) await disk.sync(fd);
    },
    async syncData(fd) {
      if (fault !== 'journal not synced') await disk.syncData(fd);
    },
  };
}
