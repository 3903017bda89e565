import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ensurePackages, findProgram, type GateEvent, PROGRAMS, run } from './index.ts';

let cacheDir: string;
beforeEach(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'pg-debs-'));
});
afterEach(() => rm(cacheDir, { recursive: true, force: true }));

test('a package is fetched once however many ask at the same time, and warm calls fetch nothing', async () => {
  const events: GateEvent[] = [];
  const ask = () => ensurePackages(['netcat-openbsd'], { cacheDir, onEvent: (event) => events.push(event) });
  const all = await Promise.all([ask(), ask(), ask()]);
  await ask();
  expect(events.filter((event) => event.type === 'fetching')).toHaveLength(1);
  expect(new Set(all.flat().map((unpacked) => unpacked.root)).size).toBe(1);
  expect((await readdir(cacheDir)).filter((name) => name.startsWith('lock'))).toEqual([]);
});

test('the lock of a process that is gone is taken over', async () => {
  const gone = await run(process.execPath, ['-p', 'process.pid']);
  await writeFile(join(cacheDir, 'lock'), gone.stdout.trim());
  const [netcat] = await ensurePackages(['netcat-openbsd'], { cacheDir });
  expect(netcat?.root).toContain('netcat-openbsd');
});

test('a machine whose package lists are empty gets lists of its own in the cache, and the system none', async () => {
  const empty = join(cacheDir, 'empty');
  await mkdir(join(empty, 'partial'), { recursive: true });
  const config = join(cacheDir, 'apt.conf');
  await writeFile(config, `Dir::State::lists "${empty}";\n`);
  process.env.APT_CONFIG = config;
  try {
    const events: GateEvent[] = [];
    const netcat = await findProgram(PROGRAMS.netcat, { cacheDir, prefer: 'cache', onEvent: (e) => events.push(e) });
    expect(events.map((event) => event.type)).toEqual(['updating', 'fetching']);
    expect((await run(netcat.command, ['-h'], { env: netcat.env })).stderr).toContain('OpenBSD netcat');
    expect(await readdir(empty)).toEqual(['partial']);
  } finally {
    delete process.env.APT_CONFIG;
  }
});

test('a name that no list knows is an error that says so, with the line to type', async () => {
  await expect(ensurePackages(['no-such-package-anywhere'], { cacheDir })).rejects.toMatchObject({
    code: 'fetch_failed',
    message: expect.stringContaining('no-such-package-anywhere'),
    fix: 'sudo apt-get install --no-install-recommends no-such-package-anywhere',
  });
});

test('an unpacked tree holds no set-id program', async () => {
  const exim = await findProgram(PROGRAMS.exim, { cacheDir, prefer: 'cache' });
  const found = await run('find', [exim.root, '-perm', '/6000']);
  expect(found).toMatchObject({ code: 0, stdout: '' });
  expect((await readFile(exim.command)).length).toBeGreaterThan(0);
});
