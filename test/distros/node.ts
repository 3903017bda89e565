/** Node and npm for a root, as the registry's packages have them. */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Cache } from './root.ts';
import { must } from './run.ts';

/** The newest Node of a major version with an npm, as a directory to be put into a root. It is kept in the cache. */
export async function nodeFor(major: string, o: Cache): Promise<string> {
  const dir = join(o.dir, `node-${major}-${process.arch}`);
  if (existsSync(dir)) return dir;
  const draft = `${dir}.draft`;
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { recursive: true });
  await unpack(`node-linux-${process.arch}@${major}`, draft, o);
  const npm = join(draft, 'lib/node_modules/npm');
  mkdirSync(npm, { recursive: true });
  await unpack('npm@11', npm, o);
  for (const name of ['npm', 'npx'])
    symlinkSync(`../lib/node_modules/npm/bin/${name}-cli.js`, join(draft, 'bin', name));
  renameSync(draft, dir);
  return dir;
}

async function unpack(name: string, dir: string, o: Cache): Promise<void> {
  const packed = join(o.dir, 'packed');
  rmSync(packed, { recursive: true, force: true });
  mkdirSync(packed, { recursive: true });
  await must(name, ['npm', 'pack', name, '--pack-destination', packed], { log: o.log });
  const [tarball = ''] = readdirSync(packed);
  await must(name, ['tar', '-xzf', join(packed, tarball), '-C', dir, '--strip-components=1'], { log: o.log });
  rmSync(packed, { recursive: true, force: true });
}
