/** Shell scripts are written with every word quoted. */
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { quote, quoteAll } from '@postern/core';

/** Puts a shell script into a directory of commands. `body` follows the `#!/bin/sh` line. Returns its path. */
export async function writeScript(dir: string, name: string, body: string): Promise<string> {
  const path = join(dir, name);
  await writeFile(path, `#!/bin/sh\n${body}\n`);
  await chmod(path, 0o755);
  return path;
}

/** `exec env A=b command args "$@"`; with `clean`, nothing of the caller's environment is passed on. */
export function execLine(o: {
  command: string;
  args?: readonly string[];
  env: Record<string, string>;
  clean?: boolean;
}): string {
  const pairs = Object.entries(o.env).map(([name, value]) => quote(`${name}=${value}`));
  const env = ['exec', 'env', ...(o.clean === true ? ['-i'] : []), ...pairs].join(' ');
  return `${env} ${quoteAll([o.command, ...(o.args ?? [])])} "$@"`;
}
