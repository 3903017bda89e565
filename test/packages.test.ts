/** What is published is what a stranger needs: each tarball whole, usable from an empty project, and nothing of our own workshop in it. */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const run = promisify(execFile);
const ROOT = resolve(import.meta.dirname, '..');

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly private?: boolean;
  readonly exports: Record<string, unknown>;
  readonly overrides?: Record<string, string>;
  readonly devDependencies?: Record<string, string>;
  readonly peerDependencies?: Record<string, string>;
  readonly [field: string]: unknown;
}

const readManifest = (dir: string): Manifest =>
  JSON.parse(readFileSync(join(ROOT, dir, 'package.json'), 'utf8')) as Manifest;
const published = readdirSync(join(ROOT, 'packages'))
  .map((name) => readManifest(join('packages', name)))
  .filter((manifest) => manifest.private !== true);

interface Packed {
  readonly name: string;
  readonly filename: string;
  readonly files: readonly { readonly path: string }[];
}

let dir: string;
let packed: Packed[];

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'packages-'));
  mkdirSync(join(dir, 'tarballs'));
  await run('npx', ['tsc', '-b'], { cwd: ROOT });
  const wanted = published.flatMap(({ name }) => ['--workspace', name]);
  const { stdout } = await run(
    'npm',
    ['pack', '--json', '--pack-destination', join(dir, 'tarballs'), '--ignore-scripts', ...wanted],
    { cwd: ROOT, maxBuffer: 16 * 1024 * 1024 },
  );
  const answer = JSON.parse(stdout) as Packed[] | Record<string, Packed>;
  packed = Array.isArray(answer) ? answer : Object.values(answer);
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe.each(published.map((manifest) => ({ name: manifest.name, manifest })))('$name', ({ name, manifest }) => {
  const paths = (): string[] => packed.find((one) => one.name === name)?.files.map(({ path }) => path) ?? [];

  test('carries its licence, its README, its types and its sources', () => {
    expect(paths()).toEqual(
      expect.arrayContaining([
        'LICENSE',
        'README.md',
        'package.json',
        'dist/index.js',
        'dist/index.d.ts',
        'src/index.ts',
      ]),
    );
  });

  test('carries no tests, no test utilities and no build info', () => {
    expect(paths().filter((path) => /\.test|test-util|tsbuildinfo|fixtures/.test(path))).toEqual([]);
  });

  test('says where it lives', () => {
    expect(manifest).toMatchObject({
      license: 'MIT',
      repository: { type: 'git', directory: `packages/${name.slice('@postern/'.length)}` },
      homepage: expect.stringMatching(/^https:/),
      bugs: expect.stringMatching(/^https:/),
      keywords: expect.arrayContaining(['postern']),
    });
  });
});

test('all packages have one version, and ask for each other at exactly that', () => {
  const versions = new Set(published.map(({ version }) => version));
  expect(versions.size).toBe(1);
  const [version] = versions;
  const asked = published.flatMap(({ dependencies }) =>
    Object.entries((dependencies ?? {}) as Record<string, string>).filter(([name]) => name.startsWith('@postern/')),
  );
  expect(asked.filter(([, range]) => range !== version)).toEqual([]);
});

describe('in an empty project', () => {
  let project: string;
  const entries = published.flatMap(({ name, exports }) =>
    Object.keys(exports).map((path) => (path === '.' ? name : `${name}${path.slice(1)}`)),
  );

  beforeAll(async () => {
    project = join(dir, 'project');
    mkdirSync(project);
    const root = readManifest('.');
    const tarballs = packed.map(({ name, filename }) => [name, `file:${join(dir, 'tarballs', filename)}`]);
    const peers = published.flatMap(({ peerDependencies }) => Object.keys(peerDependencies ?? {}));
    const installed = peers.map((name) => [name, versionOf(name)]);
    const types = ['@types/node'].map((name) => [name, versionOf(name)]);
    writeFileSync(
      join(project, 'package.json'),
      JSON.stringify({
        name: 'empty',
        private: true,
        dependencies: Object.fromEntries([...installed, ...tarballs, ...types]),
        // What our own lock file needs for want of some versions; a user's registry has them all.
        overrides: root.overrides,
      }),
    );
    await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts'], { cwd: project });
  });

  const program = (): string =>
    entries.map((entry, index) => `import * as entry${index} from '${entry}';\nvoid entry${index};`).join('\n');

  test.each([
    ['node16', 'node16'],
    ['preserve', 'bundler'],
  ])('a strict TypeScript program compiles with module %s, resolution %s', async (module, moduleResolution) => {
    const config = join(project, `tsconfig.${module}.json`);
    writeFileSync(join(project, 'all.mts'), `${program()}\n`);
    const compilerOptions = {
      ...{ module, moduleResolution, target: 'es2023', lib: ['es2023', 'esnext.disposable'], types: ['node'] },
      ...{ strict: true, exactOptionalPropertyTypes: true, noEmit: true, skipLibCheck: false },
    };
    writeFileSync(config, JSON.stringify({ compilerOptions, files: ['all.mts'] }));
    const { stdout } = await run(join(ROOT, 'node_modules/.bin/tsc'), ['-p', config], { cwd: project }).catch(
      (error: { stdout: string }) => error,
    );
    expect(stdout).toBe('');
  });

  test('every entry is imported', async () => {
    writeFileSync(join(project, 'all.mjs'), `${program()}\nconsole.log('imported');\n`);
    expect((await run(process.execPath, ['all.mjs'], { cwd: project })).stdout).toBe('imported\n');
  });

  const canRequire = (process.features as { require_module?: boolean }).require_module === true;
  test.skipIf(!canRequire)('every entry is required from CommonJS, where Node can', async () => {
    const lines = entries.map((entry) => `require('${entry}');`);
    writeFileSync(join(project, 'all.cjs'), [...lines, "console.log('required');", ''].join('\n'));
    expect((await run(process.execPath, ['all.cjs'], { cwd: project })).stdout).toBe('required\n');
  });

  test('the command runs and tells the version of its package', async () => {
    const { stdout } = await run(join(project, 'node_modules/.bin/postern'), ['--version']);
    expect(stdout.trim()).toBe(published[0]?.version);
  });
});

/** What this checkout has installed. */
function versionOf(name: string): string {
  return readManifest(join('node_modules', name)).version;
}
