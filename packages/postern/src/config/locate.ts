/** Where the daemon of a configuration listens, found without reading more of it than must be: what only asks starts often. */
import { existsSync, readFileSync } from 'node:fs';
import {
  defaultConfigFile,
  defaultStateDir,
  locateControlSocket,
  runtimeDir,
  type Surroundings,
} from '../base/paths.ts';

/**
 * The control socket of the daemon that the configuration stands for. The file is read as a whole only when it moves the state directory, or was named and is not there:
 * a client that lends a link starts often. `load` does that, where the caller will want the rest too. Throws `PosternError` `config` then.
 */
export async function findControlSocket(
  s: Surroundings,
  file: string | undefined,
  load: () => Promise<{ readonly stateDir: string }> = async () => (await import('./load.ts')).loadConfig(s, { file }),
): Promise<string> {
  const named = file ?? (s.env.POSTERN_CONFIG || undefined);
  const stateDir = (named === undefined ? movesState(defaultConfigFile(s)) : !existsSync(named) || movesState(named))
    ? (await load()).stateDir
    : defaultStateDir(s);
  return locateControlSocket(runtimeDir(s, stateDir), stateDir);
}

function movesState(file: string): boolean {
  try {
    return readFileSync(file, 'utf8').includes('state_dir');
  } catch {
    // Not there, or for the one who reads all of it to complain about.
    return false;
  }
}
