/**
 * `npm run test:distros`: the README's two commands in bare roots of Debian's releases, under several Nodes, as one table.
 * Mounts take root, or a user namespace; nothing is installed on this machine. Ends with 77 where neither can be had.
 */
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { nodeFor } from './node.ts';
import { again, rights } from './rights.ts';
import { bareRoot, type Cache, ownMirror, Room, SUITES } from './root.ts';
import { must } from './run.ts';

const HELP = `npm run test:distros -- [SUITE...] [--node 20,22,24,26] [--demo] [--test WORDS] [--mirror URL] [--fresh]

  SUITE     12, 13, forky, sid or any name debootstrap takes; without one those four
  --node    major versions; without it 20 and 26
  --demo    the first command alone
  --test X  what vitest is given instead of everything: --test packages/gate
  --mirror  where Debian is taken from; without it where this machine's apt takes it from
  --fresh   make the roots anew
`;
const ROOT = resolve(import.meta.dirname, '../..');
const CHECKOUT = '/srv/postern';

interface Row {
  readonly suite: string;
  readonly node: string;
  /** Seconds of `npm ci` and of the demo; what failed where it did. */
  readonly demo: string;
  readonly tests: string;
  readonly good: boolean;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    node: { type: 'string', default: '20,26' },
    demo: { type: 'boolean', default: false },
    test: { type: 'string', default: '' },
    mirror: { type: 'string' },
    fresh: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const print = (line: string): void => void process.stdout.write(`${line}\n`);

if (values.help) print(HELP);
else process.exitCode = await main();

async function main(): Promise<number> {
  const may = rights();
  if (may === 'namespace') return again();
  if (may !== 'here') {
    print(`test:distros cannot make roots: ${may.missing}`);
    return 77;
  }
  const dir = join(homedir(), '.cache/postern/distros');
  mkdirSync(dir, { recursive: true });
  const cache: Cache = { dir, log: join(dir, 'log') };
  if (values.fresh) rmSync(join(dir, 'roots'), { recursive: true, force: true });
  const mirror = values.mirror ?? ownMirror();
  const rows: Row[] = [];
  for (const name of positionals.length > 0 ? positionals : ['12', '13', 'forky', 'sid']) {
    for (const node of values.node.split(',')) {
      const row = await tryOne(name, node, { ...cache, mirror });
      rows.push(row);
      print(`${row.good ? 'ok  ' : 'FAIL'} Debian ${name}, Node ${node}: demo ${row.demo}; tests ${row.tests}`);
    }
  }
  print('');
  for (const line of table(rows)) print(line);
  return rows.every(({ good }) => good) ? 0 : 1;
}

async function tryOne(name: string, node: string, o: Cache & { readonly mirror: string }): Promise<Row> {
  const log = join(o.dir, `${name}-node${node}.log`);
  rmSync(log, { force: true });
  const base = { suite: name, node };
  try {
    const root = await bareRoot(SUITES[name] ?? name, { ...o, log });
    using room = new Room(root, { dir: mkdtempSync(join(tmpdir(), 'distro-')), log });
    cpSync(await nodeFor(node, { ...o, log }), room.outside('usr/local'), { recursive: true, verbatimSymlinks: true });
    await putCheckout(room.outside(CHECKOUT), log);
    const run = (words: readonly string[]): ReturnType<Room['run']> =>
      room.run(words, { cwd: CHECKOUT, env: inside() });
    const ci = await run(['npm', 'ci']);
    if (ci.code !== 0) return { ...base, demo: `npm ci failed: ${lastLine(ci.tail)}`, tests: '-', good: false };
    const demo = await run(['npm', 'run', 'demo', '--', '--once']);
    if (demo.code !== 0) return { ...base, demo: `failed: ${lastLine(demo.tail)}`, tests: '-', good: false };
    const took = `${ci.seconds.toFixed(0)} + ${demo.seconds.toFixed(0)} s`;
    if (values.demo) return { ...base, demo: took, tests: '-', good: true };
    const tests = await run(['npm', 'test', '--', ...values.test.split(' ').filter(Boolean)]);
    const [, summary = lastLine(tests.tail)] = /Tests\s+(.*\d+ passed.*)/.exec(plain(tests.tail)) ?? [];
    return { ...base, demo: took, tests: `${summary.trim()} in ${tests.seconds.toFixed(0)} s`, good: tests.code === 0 };
  } catch (error) {
    return { ...base, demo: error instanceof Error ? error.message : String(error), tests: '-', good: false };
  }
}

/** What stands in this checkout, committed or not, and nothing that is ignored. */
async function putCheckout(to: string, log: string): Promise<void> {
  mkdirSync(to, { recursive: true });
  const list = spawn('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard', '--deduplicate'], {
    cwd: ROOT,
  });
  const pack = spawn('tar', ['--null', '--ignore-failed-read', '-T', '-', '-cf', '-'], {
    cwd: ROOT,
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  list.stdout.pipe(pack.stdin);
  await must('checkout', ['tar', '-xf', '-', '-C', to, '--no-same-owner'], { log, input: pack.stdout });
}

/** The environment in a root: this machine's ways to the registry, and nothing else of it. */
function inside(): Record<string, string> {
  const kept = Object.entries(process.env).filter(([name]) =>
    /^(https?_proxy|no_proxy|npm_config_(registry|cafile))$/i.test(name),
  );
  return {
    ...(Object.fromEntries(kept) as Record<string, string>),
    ...{ HOME: '/root', LANG: 'C.UTF-8', TERM: 'dumb', CI: 'true' },
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    NODE_EXTRA_CA_CERTS: '/etc/ssl/certs/ca-certificates.crt',
  };
}

function plain(text: string): string {
  return text.replace(/\u001b\[[\d;]*m/g, '');
}

function lastLine(text: string): string {
  return plain(text)
    .trim()
    .split('\n')
    .filter((line) => !line.startsWith('npm '))
    .slice(-2)
    .join(' / ');
}

function table(rows: readonly Row[]): string[] {
  const cells = [
    ['release', 'Node', 'npm ci + demo', 'tests'],
    ...rows.map(({ suite, node, demo, tests }) => [suite, node, demo, tests]),
  ];
  const widths = [0, 1, 2, 3].map((at) => Math.max(...cells.map((row) => row[at]?.length ?? 0)));
  const lines = cells.map((row) => `| ${row.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join(' | ')} |`);
  return [lines[0] ?? '', `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...lines.slice(1)];
}
