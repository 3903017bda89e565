import { chmod, chown, cp, lchown, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { cachedPrograms } from './gate.test-util.ts';
import { ensurePackages, PROGRAMS, run } from './index.ts';

/** `nobody`: an account that ssh, as a client, finds in every passwd file. */
const NOBODY = 65534;
const PROGRAM = fileURLToPath(new URL('./ordinary.test-util.ts', import.meta.url));

test.skipIf(process.getuid?.() !== 0)('a gate started by an ordinary user takes mail and serves it', async (t) => {
  t.skip(!(await othersMayRead(PROGRAM)), 'the sources lie where other accounts cannot read them');
  const home = await mkdtemp(join(tmpdir(), 'pg-nobody-'));
  t.onTestFinished(() => rm(home, { recursive: true, force: true }));
  const own = cachedPrograms();
  const packages = [...Object.values(PROGRAMS).map((spec) => spec.package), 'libnss-wrapper'];
  await ensurePackages(packages, own);
  await cp(own.cacheDir, join(home, 'debs'), {
    recursive: true,
    verbatimSymlinks: true,
    filter: (path) => !/\/lock/.test(path),
  });
  await giveAway(home);

  const args = ['--conditions=@postern/source', '--import', 'tsx', PROGRAM, join(home, 'debs')];
  const seen = await run(process.execPath, args, {
    cwd: process.cwd(),
    env: { PATH: process.env.PATH, HOME: home },
    uid: NOBODY,
    gid: NOBODY,
  });
  expect(seen.stderr.replace(/.*Warning.*\n/g, '')).toBe('');
  const { uid, greeting, message } = JSON.parse(seen.stdout);
  expect(uid).toBe(NOBODY);
  expect(greeting).toMatch(/^\* PREAUTH /);
  expect(message).toContain('Subject: from an ordinary user');
});

async function othersMayRead(file: string): Promise<boolean> {
  for (let at = dirname(file); ; at = dirname(at)) {
    if (((await stat(at)).mode & 0o005) !== 0o005) return false;
    if (at === dirname(at)) return true;
  }
}

async function giveAway(dir: string): Promise<void> {
  await chmod(dir, 0o700);
  await chown(dir, NOBODY, NOBODY);
  for (const entry of await readdir(dir, { recursive: true })) await lchown(join(dir, entry), NOBODY, NOBODY);
}
