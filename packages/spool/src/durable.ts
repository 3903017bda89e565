/**
 * How files reach the disk. This file is the only one of the package that syncs, renames or unlinks. The order that
 * makes a file durable is: write, sync the file, close, rename into place, sync the directory. A sync that failed is
 * never tried again: the kernel marks the pages clean after reporting the error once, so a second sync would lie.
 */
import {
  closeSync,
  constants,
  fdatasync,
  fsync,
  ftruncate,
  link,
  mkdir,
  open,
  rename,
  statfs,
  unlink,
  utimes,
  write,
} from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';

/** The calls on files that a spool makes; each resolves when the kernel has done it. */
export interface Disk {
  /** Creates a file of mode 0600 that must not exist, for writing. Resolves to its descriptor. */
  create(path: string): Promise<number>;
  /** Opens an existing file (or a fresh one of mode 0600) for writing. Never truncates. */
  openForWrite(path: string): Promise<number>;
  /** Opens a directory, to sync it. */
  openDirectory(path: string): Promise<number>;
  /** Writes all of `bytes` at `position`. */
  write(fd: number, bytes: Uint8Array, position: number): Promise<void>;
  truncate(fd: number, length: number): Promise<void>;
  /** fsync(2): contents and metadata of a file, or the names in a directory. */
  sync(fd: number): Promise<void>;
  /** fdatasync(2): contents, and the length when it changed. */
  syncData(fd: number): Promise<void>;
  close(fd: number): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** Fails with EEXIST when `to` exists. */
  link(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  /** Creates a directory of mode 0700; false when it exists. */
  makeDirectory(path: string): Promise<boolean>;
  /** Sets the modification time to now. */
  touch(path: string): Promise<void>;
  /** Octets an ordinary user may still write to the filesystem of `path`. */
  freeBytes(path: string): Promise<number>;
}

const fsOpen = promisify(open);
const fsWrite = promisify(write) as unknown as (
  fd: number,
  bytes: Uint8Array,
  offset: number,
  length: number,
  position: number,
) => Promise<{ bytesWritten: number }>;

/** The real disk. */
export const nodeDisk: Disk = {
  create: (path) =>
    fsOpen(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600),
  openForWrite: (path) => fsOpen(path, constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o600),
  openDirectory: (path) => fsOpen(path, constants.O_RDONLY | constants.O_DIRECTORY),
  async write(fd, bytes, position) {
    for (let at = 0; at < bytes.length; ) {
      const { bytesWritten } = await fsWrite(fd, bytes, at, bytes.length - at, position + at);
      at += bytesWritten;
    }
  },
  truncate: promisify(ftruncate),
  sync: promisify(fsync),
  syncData: promisify(fdatasync),
  // Closing what is synced waits for nothing; a thread would cost more.
  async close(fd) {
    closeSync(fd);
  },
  rename: promisify(rename),
  link: promisify(link),
  unlink: promisify(unlink),
  makeDirectory: (path) =>
    promisify(mkdir)(path, { mode: 0o700 }).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'EEXIST') return false;
        throw error;
      },
    ),
  async touch(path) {
    const now = new Date();
    await promisify(utimes)(path, now, now);
  },
  async freeBytes(path) {
    const { bavail, bsize } = await promisify(statfs)(path);
    return bavail * bsize;
  },
};

/** Code of a system error, `''` when it is none. */
export function errno(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** True when the disk has no room (or the user no quota). */
export function isFull(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(errno(error));
}

/** Unlinks; a file that is gone already is fine. */
export async function unlinkIfThere(disk: Disk, path: string): Promise<void> {
  await disk.unlink(path).catch((error: unknown) => {
    if (errno(error) !== 'ENOENT') throw error;
  });
}

/** Makes a directory and its missing parents, each name durable in the one above. */
export async function makeDurableDirectory(disk: Disk, path: string): Promise<void> {
  const parent = dirname(path);
  const made = await disk.makeDirectory(path).catch(async (error: unknown) => {
    if (errno(error) !== 'ENOENT' || parent === path) throw error;
    await makeDurableDirectory(disk, parent);
    return await disk.makeDirectory(path);
  });
  if (made) await syncDirectory(disk, parent);
}

/**
 * Syncs a directory and every one above it, so that the path itself survives a power cut whoever made it. What may not
 * be opened or synced is skipped above `path` itself.
 */
export async function syncUpwards(disk: Disk, path: string): Promise<void> {
  await syncDirectory(disk, path);
  for (let at = path; dirname(at) !== at; ) {
    at = dirname(at);
    await syncDirectory(disk, at).catch((error: unknown) => {
      if (!['EACCES', 'EPERM', 'EINVAL', 'EROFS', 'ENOTSUP'].includes(errno(error))) throw error;
    });
  }
}

/** Syncs the names in a directory, once. */
export async function syncDirectory(disk: Disk, path: string): Promise<void> {
  const fd = await disk.openDirectory(path);
  try {
    await disk.sync(fd);
  } finally {
    await disk.close(fd);
  }
}

/**
 * Group commit of one directory: everybody who asks while a sync runs shares the next one. After a failed sync it fails
 * for good. The descriptor stays open, so that an error between two syncs is reported to the second.
 */
export class DirectorySync {
  readonly #disk: Disk;
  readonly #path: string;
  #fd: Promise<number> | undefined;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #failure: { error: unknown } | undefined;

  constructor(disk: Disk, path: string) {
    this.#disk = disk;
    this.#path = path;
  }

  /** Resolves when every name changed before this call is durable. */
  sync(): Promise<void> {
    this.#next ??= (this.#running ?? Promise.resolve())
      .catch(() => {})
      .then(() => {
        const current = this.#sync();
        this.#running = current;
        this.#next = undefined;
        return current;
      });
    return this.#next;
  }

  async #sync(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    try {
      this.#fd ??= this.#disk.openDirectory(this.#path);
      await this.#disk.sync(await this.#fd);
    } catch (error) {
      this.#failure = { error };
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#running?.catch(() => {});
    const fd = this.#fd;
    this.#fd = undefined;
    this.#failure ??= { error: new Error('the directory was closed') };
    if (fd !== undefined) await fd.then((open) => this.#disk.close(open)).catch(() => {});
  }
}
