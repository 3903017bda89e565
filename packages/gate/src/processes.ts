/** A gate's processes are known by their parents and by a mark in their environment, and ended each by its id. */
import { readdir, readFile } from 'node:fs/promises';
import { run } from './run.ts';

/** The environment variable every process of a gate carries; its value is the gate's directory. */
export const MARK = 'POSTERN_GATE';

/** A running process and its parent. */
export interface ProcessEntry {
  pid: number;
  parent: number;
  /** Name as the kernel keeps it, at most 15 characters on Linux. */
  name: string;
}

/** All processes, from /proc on Linux, from `ps` elsewhere. */
async function allProcesses(): Promise<ProcessEntry[]> {
  if (process.platform !== 'linux') {
    const { stdout } = await run('ps', ['-axo', 'pid=,ppid=,comm=']);
    return [...stdout.matchAll(/^\s*(\d+)\s+(\d+)\s+(.*)$/gm)].map((match) => entry(match[1], match[2], match[3]));
  }
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) => {
      // The name is in parentheses and may hold anything: what follows the last one counts.
      const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
      const match = /^\d+ \((.*)\) \S+ (\d+)/s.exec(stat);
      return match === null ? undefined : entry(pid, match[2], match[1]);
    }),
  );
  return found.filter((process) => process !== undefined);
}

function entry(pid: string | undefined, parent: string | undefined, name = ''): ProcessEntry {
  return { pid: Number(pid), parent: Number(parent), name };
}

/** Children, grandchildren and so on of a process, nearest first. */
export async function descendants(pid: number): Promise<ProcessEntry[]> {
  const all = await allProcesses();
  const found: ProcessEntry[] = [];
  let parents = [pid];
  while (parents.length > 0) {
    const children = all.filter((process) => parents.includes(process.parent));
    found.push(...children);
    parents = children.map((child) => child.pid);
  }
  return found;
}

/** Processes that carry the gate's mark, orphans included. Linux only; elsewhere none are found. */
export async function markedProcesses(dir: string): Promise<number[]> {
  if (process.platform !== 'linux') return [];
  const wanted = `${MARK}=${dir}`;
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) => {
      const environ = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
      return environ.split('\0').includes(wanted) ? Number(pid) : undefined;
    }),
  );
  return found.filter((pid) => pid !== undefined && pid !== process.pid) as number[];
}

/** Signals processes one by one; those already gone, or not ours, are passed over. */
export function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code !== 'ESRCH' && code !== 'EPERM') throw error;
    }
  }
}
