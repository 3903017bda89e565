/** The mbsync of this machine, asked and looked at: its lines differ by version. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { InstalledIsync } from './facts.ts';

/** Undefined when none is installed. `env` is what it is looked for and run with. */
export function installedIsync(env: NodeJS.ProcessEnv): InstalledIsync | undefined {
  try {
    const said = execFileSync('mbsync', ['--version'], { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    const [, version] = /(\d+(?:\.\d+)+)/.exec(said) ?? [];
    return version === undefined ? undefined : { version, plain: saslPlain() };
  } catch {
    return undefined;
  }
}

/** Where Cyrus SASL keeps its modules; one that lies elsewhere is not found, and then nothing is claimed. */
function saslPlain(): boolean {
  const triplets = existsSync('/usr/lib') ? readdirSync('/usr/lib').filter((name) => /-linux-gnu/.test(name)) : [];
  const dirs = ['/usr/lib', '/usr/lib64', '/usr/local/lib', ...triplets.map((name) => join('/usr/lib', name))]
    .map((dir) => join(dir, 'sasl2'))
    .filter((dir) => existsSync(dir));
  if (dirs.length === 0 && triplets.length === 0) return true;
  return dirs.some((dir) => readdirSync(dir).some((name) => name.startsWith('libplain.')));
}
