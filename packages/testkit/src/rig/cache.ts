/** Where the rig keeps programs: a place the account a gate runs as can read. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { ProgramOptions } from '@postern/gate';

/** Root's own home is closed to the account a gate runs as, so that each gate would have to copy its programs. */
function cacheHome(): string {
  return process.env.XDG_CACHE_HOME ?? (process.getuid?.() === 0 ? '/var/cache' : join(homedir(), '.cache'));
}

/**
 * Where tests keep fetched programs. `POSTERN_RIG=cache` makes them ignore what is installed, as a fresh machine would.
 */
export function rigPrograms(): ProgramOptions {
  return {
    cacheDir: join(cacheHome(), 'postern', 'debs'),
    path: process.env.PATH ?? '',
    prefer: process.env.POSTERN_RIG === 'cache' ? 'cache' : 'system',
  };
}
