import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseAst } from 'vitest/node';

const ROOT = resolve(import.meta.dirname, '..');
const CAPABILITIES = ['ssh', 'smtp', 'imap', 'spool', 'relay', 'gate'];

/** What each package may import from the workspace. */
const STAR: Readonly<Record<string, readonly string[]>> = {
  core: [],
  ...Object.fromEntries(CAPABILITIES.map((name) => [name, ['core']])),
  nodemailer: ['core', ...CAPABILITIES],
  imapflow: ['core', ...CAPABILITIES],
  postern: ['core', ...CAPABILITIES],
  testkit: ['core', 'gate'],
};

interface Manifest {
  readonly name: string;
  readonly private?: boolean;
  readonly dependencies?: Record<string, string>;
  readonly devDependencies?: Record<string, string>;
  readonly peerDependencies?: Record<string, string>;
}

interface Import {
  /** Where, relative to the repository, with its line. */
  readonly at: string;
  readonly specifier: string;
  readonly typeOnly: boolean;
}

const packages = readdirSync(join(ROOT, 'packages'));
const isTest = (file: string): boolean => /\.(test|test-util)\.ts$/.test(file);

function manifest(name: string): Manifest {
  return JSON.parse(readFileSync(join(ROOT, 'packages', name, 'package.json'), 'utf8')) as Manifest;
}

function sources(name: string): string[] {
  const base = join(ROOT, 'packages', name, 'src');
  return readdirSync(base, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => join(base, file));
}

/** `import … from`, `export … from`, `import '…'` and `import('…')`. */
const IMPORT =
  /(?:^|\n)\s*(import|export)\s+(type\s+)?(?:[\w*{}\s,$]+?\sfrom\s+)?['"]([^'"\n]+)['"]|\bimport\(\s*['"]([^'"\n]+)['"]\s*\)/g;

function importsOf(file: string): Import[] {
  const text = readFileSync(file, 'utf8');
  return [...text.matchAll(IMPORT)].map((match) => ({
    at: `${relative(ROOT, file)}:${text.slice(0, match.index).split('\n').length}`,
    specifier: match[3] ?? match[4] ?? '',
    typeOnly: match[2] !== undefined,
  }));
}

/** `@scope/name` or `name` of a bare specifier; undefined for relative ones and for Node's own. */
function packageOf(specifier: string): string | undefined {
  if (specifier.startsWith('.') || specifier.startsWith('node:') || builtinModules.includes(specifier))
    return undefined;
  return specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
}

describe('the star', () => {
  test('every package has its place in it', () => expect(packages.toSorted()).toEqual(Object.keys(STAR).toSorted()));

  test.each(packages)('%s imports only inward', (name) => {
    const crossings = sources(name).flatMap((file) => {
      const allowed = [...(STAR[name] ?? []), name, ...(isTest(file) ? ['testkit', 'gate'] : [])];
      return importsOf(file)
        .filter(({ specifier }) => {
          const [, other] = /^@postern\/([^/]+)/.exec(specifier) ?? [];
          if (other !== undefined) return !allowed.includes(other);
          if (!specifier.startsWith('.')) return false;
          return relative(join(ROOT, 'packages', name), resolve(dirname(file), specifier)).startsWith('..');
        })
        .map(({ at, specifier }) => `${at} imports ${specifier}`);
    });
    expect(crossings).toEqual([]);
  });

  test.each(packages)('%s depends only inward', (name) => {
    const { dependencies = {}, peerDependencies = {} } = manifest(name);
    const others = Object.keys({ ...dependencies, ...peerDependencies }).flatMap(
      (dependency) => /^@postern\/(.+)/.exec(dependency)?.[1] ?? [],
    );
    expect(others.filter((other) => !STAR[name]?.includes(other))).toEqual([]);
  });

  test.each(packages)('%s declares what it imports', (name) => {
    const { dependencies = {}, peerDependencies = {}, devDependencies = {} } = manifest(name);
    const shipped = Object.keys({ ...dependencies, ...peerDependencies });
    const tests = [...shipped, ...Object.keys(devDependencies), ...rootDevDependencies()];
    const undeclared = sources(name).flatMap((file) =>
      importsOf(file)
        .filter(({ specifier, typeOnly }) => {
          const wanted = packageOf(specifier);
          if (wanted === undefined || wanted === `@postern/${name}`) return false;
          if (isTest(file)) return !tests.includes(wanted);
          return !shipped.includes(wanted) && !(typeOnly && shipped.includes(`@types/${wanted}`));
        })
        .map(({ at, specifier }) => `${at} imports ${specifier}`),
    );
    expect(undeclared).toEqual([]);
  });

  // Names of pure functions: `isAscii`, `isIP`, `domainToASCII`. Streams, timers and files are what a codec does without.
  const PURE = ['node:buffer', 'node:net', 'node:url'];
  test('core takes types and pure functions alone from Node, and nothing else from outside', () => {
    const taken = sources('core')
      .filter((file) => !isTest(file) && !file.includes('/testing/'))
      .flatMap(importsOf)
      .filter(({ specifier, typeOnly }) => !specifier.startsWith('.') && !PURE.includes(specifier) && !typeOnly);
    expect(taken).toEqual([]);
  });

  test('nothing in core but its tests loads what is for tests', () => {
    const loading = sources('core')
      .filter((file) => !isTest(file) && !file.includes('/testing/'))
      .flatMap(importsOf)
      .filter(({ specifier }) => specifier.includes('/testing/'));
    expect(loading).toEqual([]);
  });
});

/** The files of a package that import each other in a ring, types included: one list for each ring. */
function ringsOf(name: string): string[][] {
  const files = sources(name).filter((file) => !isTest(file));
  const next = new Map(
    files.map((file) => {
      const relatives = importsOf(file).filter(({ specifier }) => specifier.startsWith('.'));
      return [file, relatives.map(({ specifier }) => resolve(dirname(file), specifier))];
    }),
  );
  const reached = (start: string): Set<string> => {
    const seen = new Set<string>();
    for (const todo = [...(next.get(start) ?? [])]; todo.length > 0; ) {
      const file = todo.pop() ?? '';
      if (seen.has(file)) continue;
      seen.add(file);
      todo.push(...(next.get(file) ?? []));
    }
    return seen;
  };
  const reach = new Map(files.map((file) => [file, reached(file)]));
  const rings = files
    .filter((file) => reach.get(file)?.has(file))
    .map((file) => files.filter((other) => reach.get(file)?.has(other) && reach.get(other)?.has(file)));
  const named = rings.map((ring) => ring.map((file) => relative(ROOT, file)).join(' '));
  return [...new Set(named)].map((ring) => ring.split(' '));
}

describe('the files of a package', () => {
  test.each(packages)('%s: import each other in no ring', (name) => expect(ringsOf(name)).toEqual([]));
});

/** The one file that may use what smtp-server keeps to itself (`_socket`, `lib/…`): its contract test says what that is. */
describe("smtp-server's private members", () => {
  test('are used in one file, which has a contract test', () => {
    const intake = join(ROOT, 'packages/relay/src/intake');
    const reaching = packages
      .flatMap(sources)
      .filter((file) => !isTest(file) && /smtp-server/.test(readFileSync(file, 'utf8')))
      .filter((file) =>
        /\bsession\._\w|\.(_socket|_parser|_server)\b|smtp-server\/lib/.test(readFileSync(file, 'utf8')),
      );
    expect(reaching).toEqual([join(intake, 'smtp-session.ts')]);
    expect(existsSync(join(intake, 'smtp-session.test.ts'))).toBe(true);
  });
});

describe('a file opens with its law', () => {
  test.each(packages)('%s', (name) => {
    const lawless = sources(name)
      .filter((file) => !isTest(file) && !/^\/\*\*\s*\S/.test(readFileSync(file, 'utf8')))
      .map((file) => relative(ROOT, file));
    expect(lawless).toEqual([]);
  });
});

/** Most lines of a function, from its first word to its last brace. */
const LONGEST = 60;
/** Functions that are a table, a row for each case: `file name`. */
const TABLES: readonly string[] = [
  'packages/postern/src/config/schema.ts makeSchema',
  'packages/postern/src/daemon/log-events.ts logRelayEvent',
];

interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value && 'start' in value;
}

/** The functions of a file: name, where there is one, and lines. */
function functionsOf(file: string): { name: string; lines: number }[] {
  const text = readFileSync(file, 'utf8');
  const found: { name: string; lines: number }[] = [];
  const visit = (node: Node): void => {
    const { id, body, key } = node as Node & Partial<Record<'id' | 'body' | 'key', unknown>>;
    if (/Function|MethodDefinition/.test(node.type) && (body ?? key) != null) {
      const named = (id ?? key) as { name?: string } | undefined;
      const lines = text.slice(node.start, node.end).split('\n').length;
      found.push({ name: named?.name ?? '(unnamed)', lines });
    }
    for (const child of Object.values(node).flat()) if (isNode(child)) visit(child);
  };
  visit(parseAst(text, { lang: 'ts' }) as unknown as Node);
  return found;
}

describe(`a function has at most ${LONGEST} lines`, () => {
  test('the measure sees every kind of function', () => {
    const names = functionsOf(import.meta.filename).map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['functionsOf', '(unnamed)']));
  });

  test.each(packages)('%s', (name) => {
    const long = sources(name)
      .filter((file) => !isTest(file))
      .flatMap((file) => functionsOf(file).map((each) => ({ ...each, place: `${relative(ROOT, file)} ${each.name}` })))
      .filter(({ lines, place }) => lines > LONGEST && !TABLES.includes(place));
    expect(long.map(({ place, lines }) => `${place}: ${lines}`)).toEqual([]);
  });
});

/** The folders of `postern` from the bottom up: those of one row may not import each other, nor what is above. */
const FLOORS: readonly (readonly string[])[] = [
  ['base'],
  ['tls'],
  ['config'],
  ['access', 'net', 'queue', 'service', 'setup', 'check', 'pipe', 'demo'],
  ['control'],
  ['daemon', 'ssh-cli'],
  ['cli'],
  ['sendmail'],
  ['.'],
];

describe("postern's folders", () => {
  const base = join(ROOT, 'packages/postern/src');
  const folderOf = (file: string): string => dirname(relative(base, file)).split('/')[0] ?? '.';
  const floorOf = (folder: string): number => FLOORS.findIndex((row) => row.includes(folder));
  const files = sources('postern').filter((file) => !isTest(file));

  test('each has its floor', () => {
    expect([...new Set(files.map(folderOf))].toSorted()).toEqual(FLOORS.flat().toSorted());
  });

  test('look down only', () => {
    const upward = files.flatMap((file) =>
      importsOf(file)
        .filter(({ specifier }) => specifier.startsWith('.'))
        .filter(({ specifier }) => {
          const [from, to] = [folderOf(file), folderOf(resolve(dirname(file), specifier))];
          return from !== to && floorOf(to) >= floorOf(from);
        })
        .map(({ at, specifier }) => `${at} imports ${specifier}`),
    );
    expect(upward).toEqual([]);
  });
});

function rootDevDependencies(): string[] {
  const { devDependencies = {} } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Manifest;
  return Object.keys(devDependencies);
}

interface Exported {
  readonly name: string;
  readonly file: string;
}

/** What a module hands out, followed through its re-exports. */
function exportsOf(file: string): Exported[] {
  const text = readFileSync(file, 'utf8');
  const from = (specifier: string): string => resolve(dirname(file), specifier);
  const all = [...text.matchAll(/^export \* from '(\.[^']+)';/gm)].flatMap((match) => exportsOf(from(match[1] ?? '')));
  const named = [...text.matchAll(/^export (?:type )?\{([^}]*)\} from '(\.[^']+)';/gm)].flatMap((match) =>
    namesIn(match[1] ?? '').map((name) => find(name, from(match[2] ?? ''))),
  );
  const own = [...text.matchAll(DECLARATION)].map((match) => ({ name: match[1] ?? '', file }));
  return [...all, ...named, ...own];
}

const DECLARATION =
  /^export (?:declare )?(?:abstract )?(?:async )?(?:function\*?|class|interface|type|const|let) ([\w$]+)/gm;

function namesIn(list: string): string[] {
  return list
    .split(',')
    .map(
      (item) =>
        item
          .trim()
          .replace(/^type /, '')
          .split(' as ')[0] ?? '',
    )
    .filter((name) => name !== '');
}

/** The file that declares a name which `file` exports. */
function find(name: string, file: string): Exported {
  return exportsOf(file).find((exported) => exported.name === name) ?? { name, file };
}

function hasDocstring({ name, file }: Exported): boolean {
  const lines = readFileSync(file, 'utf8').split('\n');
  const escaped = name.replaceAll('$', '\\$');
  const pattern = new RegExp(`^export .*\\b(function\\*?|class|interface|type|const|let) ${escaped}\\b`);
  const at = lines.findIndex((line) => pattern.test(line));
  if (at < 0) return false;
  let above = at - 1;
  while (/^\s*\/\/ biome-ignore/.test(lines[above] ?? '')) above -= 1;
  return (lines[above] ?? '').trimEnd().endsWith('*/');
}

describe('every exported thing has a docstring', () => {
  const entries = packages.flatMap((name) => {
    const map = (
      JSON.parse(readFileSync(join(ROOT, 'packages', name, 'package.json'), 'utf8')) as {
        exports: Record<string, { '@postern/source': string }>;
      }
    ).exports;
    return Object.entries(map).map(([path, { '@postern/source': source }]): [string, string] => [
      join('@postern', name, path),
      join(ROOT, 'packages', name, source),
    ]);
  });
  test.each(entries)('%s', (_, file) => {
    expect(existsSync(file)).toBe(true);
    const bare = exportsOf(file).filter((exported) => !hasDocstring(exported));
    expect(bare.map((exported) => `${relative(ROOT, exported.file)}: ${exported.name}`)).toEqual([]);
  });
});
