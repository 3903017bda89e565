import { readFileSync } from 'node:fs';

/** Memory of a process, bytes: resident, and its proportional share (Linux `smaps_rollup`). */
export function memoryOf(pid: number): { rss: number; pss: number } {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const of = (key: string): number =>
    Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? Number.NaN) * 1024;
  return { rss: of('Rss'), pss: of('Pss') };
}

/** Summed over several processes. */
export function memoryOfAll(pids: readonly number[]): { rss: number; pss: number } {
  return pids
    .map(memoryOf)
    .reduce((sum, one) => ({ rss: sum.rss + one.rss, pss: sum.pss + one.pss }), { rss: 0, pss: 0 });
}
