/** A process is known by its number, when it started and where it counts: a number alone is given again. */
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

/** Who a process is, so that another can tell whether it still lives: a number alone is given again. */
export interface ProcessMark {
  readonly pid: number;
  /** Start time in clock ticks since boot (`/proc/PID/stat`, field 22); empty where there is no `/proc`. */
  readonly start: string;
  /** Boot id; empty where unknown. */
  readonly boot: string;
  /** Inode of the pid namespace; empty where unknown. */
  readonly space: string;
  /** Name of the machine; absent in marks of versions that did not write it. */
  readonly host?: string;
}

function quietly(read: () => string): string {
  try {
    return read();
  } catch {
    return '';
  }
}

/**
 * Field 22 of what is there; empty for a process that has died and was not waited for (field 3): where a container has
 * no init, it stays so for good. The fields from 3 on come after the command in parentheses, which may hold spaces and
 * parentheses.
 */
function startTime(pid: number | 'self'): string {
  const stat = quietly(() => readFileSync(`/proc/${pid}/stat`, 'latin1'));
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? '' : (fields[19] ?? '');
}

/** This process. */
export function ownMark(): ProcessMark {
  return {
    pid: process.pid,
    start: startTime('self'),
    boot: quietly(() => readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()),
    space: quietly(() => readlinkSync('/proc/self/ns/pid')).replace(/\D/g, ''),
    host: hostname(),
  };
}

/**
 * Whether the process of a mark still runs; `unknown` when it is in another pid namespace of this boot, or on another
 * machine (a shared home).
 */
export function liveness(mark: ProcessMark): 'alive' | 'dead' | 'unknown' {
  const own = ownMark();
  if (mark.boot !== own.boot) return mark.host === undefined || mark.host === own.host ? 'dead' : 'unknown';
  if (mark.space !== own.space) return 'unknown';
  if (mark.start !== startTime(mark.pid)) return 'dead';
  try {
    process.kill(mark.pid, 0);
    return 'alive';
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM' ? 'alive' : 'dead';
  }
}
