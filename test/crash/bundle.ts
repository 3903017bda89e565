import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

/** Makes one plain file of a program, so that a life starts in a fraction of the time that compiling it would take. */
export async function bundle(entry: string, outfile: string): Promise<string> {
  await build({
    ...{ outfile, bundle: true, platform: 'node', format: 'esm', target: 'node20', logLevel: 'silent' },
    entryPoints: [entry],
    conditions: ['@postern/source'],
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  });
  return outfile;
}

/** The worker of the kill test. */
export function bundleWorker(dir: string): Promise<string> {
  return bundle(fileURLToPath(new URL('./worker.ts', import.meta.url)), join(dir, 'worker.mjs'));
}
