/**
 * Puts what the commands run into a few files beside what tsc made: a command that only asks loads three files instead of a hundred. Only our own
 * packages are put together; what others wrote is installed beside, and loaded where it is needed.
 */
import { rmSync } from 'node:fs';
import { build } from 'esbuild';

rmSync('dist/run', { recursive: true, force: true });

await build({
  entryPoints: ['src/main.ts', 'src/ssh-cli/main.ts'],
  outbase: 'src',
  outdir: 'dist',
  chunkNames: 'run/[name]-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  conditions: ['@postern/source'],
  sourcemap: true,
  plugins: [
    {
      name: 'only-our-own',
      setup({ onResolve }) {
        onResolve({ filter: /^[^./]/ }, ({ path }) =>
          path.startsWith('@postern/') ? undefined : { path, external: true },
        );
      },
    },
  ],
});
