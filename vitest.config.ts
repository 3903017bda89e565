import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

/** Tests run from sources: every workspace package resolves to its `src` through the `@postern/source` condition. */
export default defineConfig({
  ssr: { resolve: { conditions: ['@postern/source', 'node', 'module', 'import', 'default'] } },
  test: {
    include: ['packages/*/src/**/*.test.ts', 'test/**/*.test.ts'],
    testTimeout: 120_000,
    hookTimeout: 180_000,
    // Real mail programs on a machine that does something else too: a hang is tried again in CI, and shown as retried.
    retry: process.env.CI ? 1 : 0,
    pool: 'forks',
    // Most tests wait for servers, not for a processor.
    maxWorkers: Math.max(2, availableParallelism()),
  },
});
