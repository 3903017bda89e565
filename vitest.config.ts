import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { defineConfig } from 'vitest/config';
import { BaseSequencer } from 'vitest/node';

const ROOT = import.meta.dirname;

/** Every test file, relative to the root. */
function testFiles(): string[] {
  const packages = readdirSync(join(ROOT, 'packages')).map((name) => join('packages', name, 'src'));
  return [...packages, 'test'].flatMap((dir) =>
    readdirSync(join(ROOT, dir), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.test.ts'))
      .map((file) => join(dir, file)),
  );
}

/** What starts a server, a mail program or the command itself, wherever it is imported from. */
const STARTS = /from '(@postern\/gate|@postern\/testkit\/rig|node:child_process)'/;
const RELATIVE = /from '(\.[^']+\.ts)'/g;

/** True for a test that starts a program, by itself or through its utilities: it needs Debian's packages, and seconds. */
function startsPrograms(file: string): boolean {
  const text = readFileSync(file, 'utf8');
  if (STARTS.test(text)) return true;
  const utilities = [...text.matchAll(RELATIVE)]
    .map(([, specifier = '']) => resolve(dirname(file), specifier))
    .filter((path) => /\.test-util\.ts$|\/test\//.test(relative(ROOT, path)) && existsSync(path));
  return utilities.some(startsPrograms);
}

const files = testFiles();
/** Seeded histories, power cuts and deaths: minutes of processor time. */
const crash = files.filter((file) => /^test\/(crash|queue)\//.test(file));
const servers = files.filter(
  (file) => !crash.includes(file) && (file.startsWith('packages/gate/') || startsPrograms(join(ROOT, file))),
);

/** Tests run from sources: every workspace package resolves to its `src` through the `@postern/source` condition. */
const project = (name: string, include: string[], retry = 0) => ({
  extends: true as const,
  test: { name, include, retry },
});

/** The longest first, so that no worker is left with one at the end. */
class LongestFirst extends BaseSequencer {
  override async sort(specs: Parameters<BaseSequencer['sort']>[0]): ReturnType<BaseSequencer['sort']> {
    const weight = ({ moduleId }: (typeof specs)[number]): number =>
      LONG.findIndex((part) => moduleId.includes(part)) >>> 0;
    return (await super.sort(specs)).toSorted((a, b) => weight(a) - weight(b));
  }
}
const LONG = [
  'crash/fail',
  'crash/kill',
  'crash/syscall',
  'crash/',
  'imap-clients',
  'mtas',
  'lend-',
  'queue/',
  'main-job',
];

export default defineConfig({
  ssr: { resolve: { conditions: ['@postern/source', 'node', 'module', 'import', 'default'] } },
  test: {
    projects: [
      project(
        'unit',
        files.filter((file) => !servers.includes(file) && !crash.includes(file)),
      ),
      project('crash', crash),
      // Real mail programs on a machine that does something else too: one that hangs is tried again in CI, and shown as retried.
      project('servers', servers, process.env.CI ? 1 : 0),
    ],
    testTimeout: 120_000,
    hookTimeout: 180_000,
    pool: 'forks',
    sequence: { sequencer: LongestFirst },
    // Most tests wait for servers, not for a processor.
    maxWorkers: Math.max(2, Math.ceil(availableParallelism() * 1.5)),
  },
});
