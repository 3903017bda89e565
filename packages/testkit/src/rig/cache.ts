import { homedir } from 'node:os';
import { join } from 'node:path';
import type { ProgramOptions } from '@postern/gate';

/**
 * Where tests keep fetched programs: the same cache that `postern demo` uses. `POSTERN_RIG=cache` makes them ignore what is
 * installed, as a fresh machine would.
 */
export function rigPrograms(): ProgramOptions {
  const base = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
  return {
    cacheDir: join(base, 'postern', 'debs'),
    path: process.env.PATH ?? '',
    prefer: process.env.POSTERN_RIG === 'cache' ? 'cache' : 'system',
  };
}
