/** A program that the gate's account could not reach is copied to where it can. */
import { existsSync } from 'node:fs';
import { chmod, copyFile, cp, readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Program } from './programs.ts';

/**
 * As root the gate's programs run as another uid, which cannot enter a cache beneath `/root`. What lies there is copied into
 * `dir`; what is open to all is used where it is.
 */
export async function reachableProgram(program: Program, dir: string): Promise<Program> {
  if (process.getuid?.() !== 0 || program.root === '/' || (await openToAll(program.root))) return program;
  const root = join(dir, basename(program.root));
  if (!existsSync(root)) {
    await cp(program.root, root, { recursive: true, verbatimSymlinks: true });
    await openUp(root);
  }
  const moved = (text: string): string => text.replaceAll(program.root, root);
  const env = Object.fromEntries(Object.entries(program.env).map(([name, value]) => [name, moved(value)]));
  return { command: moved(program.command), env, root };
}

/** The same for a single file. */
export async function reachableFile(path: string, dir: string): Promise<string> {
  if (process.getuid?.() !== 0 || (await openToAll(dirname(path)))) return path;
  const copy = join(dir, basename(path));
  await copyFile(path, copy);
  await chmod(copy, 0o755);
  return copy;
}

/** New directories get the umask's mode; copied files keep theirs. */
async function openUp(dir: string): Promise<void> {
  await chmod(dir, 0o755);
  for (const entry of await readdir(dir, { withFileTypes: true })) {
    if (entry.isDirectory()) await openUp(join(dir, entry.name));
  }
}

/** Whether every directory down to this one lets others pass. */
async function openToAll(dir: string): Promise<boolean> {
  for (let at = dir; ; at = dirname(at)) {
    if (((await stat(at)).mode & 0o005) !== 0o005) return false;
    if (at === dirname(at)) return true;
  }
}
