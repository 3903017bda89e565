/** Debian's packages are used as installed, or unpacked into a private cache: nothing is installed system-wide. */
import { randomBytes } from 'node:crypto';
import { chmod, lstat, mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { lastLines } from '@postern/core';
import { GateError } from './errors.ts';
import type { OnGateEvent } from './event.ts';
import { withLock } from './lock.ts';
import { run } from './run.ts';

/** Where Debian packages are unpacked, and how they may be had. */
export interface PackageOptions {
  /** The private cache, created when absent; any number of processes may share it. */
  cacheDir: string;
  /** Install with the system's `apt-get install` instead (root only). Default false: nothing is installed. */
  install?: boolean;
  onEvent?: OnGateEvent;
  signal?: AbortSignal;
}

/** One package with the libraries it needs and the system lacks, unpacked. */
export interface UnpackedPackage {
  name: string;
  /** Stands for `/`: programs lie in `root/usr/bin` and so on. `/` itself when the system's package manager installed it. */
  root: string;
  /** Directories for `LD_LIBRARY_PATH`, empty when none is needed. */
  libraryPath: readonly string[];
}

/** Not needed to run anything, and most of the bytes. */
const CLUTTER = ['usr/share/doc', 'usr/share/man', 'usr/share/locale', 'usr/share/lintian', 'usr/share/bug'];
/** Cannot be taken from a cache: they must match the system's loader. */
const NEVER_UNPACK = new Set(['libc6', 'libc-bin', 'base-files', 'dpkg', 'apt']);

/**
 * Makes each Debian package available without installing it: `apt-get download` (no privilege needed) and `dpkg -x` into the
 * cache, with the dependencies this system lacks. Warm calls only look. Safe to call from several processes at once: each
 * package appears by one rename, and a lock saves downloading it twice. Package lists that are missing or too old are read
 * anew into the cache, never into the system's own. Packages joined by `+` share one tree and are all unpacked, even those the
 * system has: `dovecot-core+dovecot-imapd`.
 *
 * @throws GateError `program_missing` where there is no apt, `fetch_failed` when apt or dpkg fails.
 */
export async function ensurePackages(names: readonly string[], o: PackageOptions): Promise<UnpackedPackage[]> {
  if (o.install === true) return installPackages(names, o);
  const store = join(o.cacheDir, await systemId());
  const missing = await absent(names, store);
  if (missing.length > 0) {
    if (!(await haveApt())) throw noApt(missing);
    await mkdir(store, { recursive: true });
    await withLock(join(o.cacheDir, 'lock'), o.signal, async () => {
      const still = await absent(names, store);
      if (still.length > 0) await fetchAll(still, store, o);
    });
  }
  return Promise.all(names.map((name) => describe(name, join(store, name))));
}

/** Distribution, release and architecture, such as `debian-12-x64`, `debian-forky-x64`: caches of different systems never mix. */
async function systemId(): Promise<string> {
  const text = await readFile('/etc/os-release', 'utf8').catch(() => '');
  const field = (key: string): string => new RegExp(`^${key}="?([\\w.-]+)`, 'm').exec(text)?.[1] ?? 'unknown';
  const version = field('VERSION_ID');
  return `${field('ID')}-${version === 'unknown' ? field('VERSION_CODENAME') : version}-${process.arch}`;
}

/** Forgets a tree, so that the next {@link ensurePackages} fetches it anew. */
export async function forgetPackage(unpacked: UnpackedPackage): Promise<void> {
  const aside = join(dirname(unpacked.root), `.old-${randomBytes(6).toString('hex')}`);
  await rename(unpacked.root, aside).catch(() => undefined);
  await rm(aside, { recursive: true, force: true });
}

async function absent(names: readonly string[], store: string): Promise<string[]> {
  const found = await Promise.all(names.map((name) => exists(join(store, name))));
  return names.filter((_, index) => !found[index]);
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

async function haveApt(): Promise<boolean> {
  return (await exists('/usr/bin/apt-get')) && (await exists('/usr/bin/dpkg'));
}

/** Homebrew's and other systems' names for what Debian calls these. */
const ELSEWHERE: Record<string, string> = {
  'dovecot-core+dovecot-imapd': 'dovecot',
  'exim4-daemon-light': 'exim',
  'openssh-server': 'openssh',
  'netcat-openbsd': 'netcat',
};

function noApt(names: readonly string[]): GateError {
  const plain = names.map((name) => ELSEWHERE[name] ?? name).join(' ');
  const fix =
    process.platform === 'darwin' ? `brew install ${plain}` : `install ${plain} with this system's package manager`;
  return new GateError('program_missing', `not installed, and there is no apt to fetch from: ${plain}; try: ${fix}`, {
    fix,
  });
}

async function installPackages(names: readonly string[], o: PackageOptions): Promise<UnpackedPackage[]> {
  if (!(await haveApt())) throw noApt(names);
  o.onEvent?.({ type: 'fetching', packages: names });
  // RUNLEVEL=1 keeps Debian's maintainer scripts from starting what they install.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  const args = ['install', '-y', '-qq', '--no-install-recommends', ...names.flatMap(parts)];
  const fix = installLine(names);
  let result = await run('apt-get', args, { env, signal: o.signal });
  if (result.code !== 0) {
    o.onEvent?.({ type: 'updating' });
    await run('apt-get', ['update', '-qq'], { env, signal: o.signal });
    result = await run('apt-get', args, { env, signal: o.signal });
  }
  if (result.code !== 0)
    throw new GateError('fetch_failed', `apt-get install failed: ${lastLines(result.stderr)}`, { fix });
  return names.map((name) => ({ name, root: '/', libraryPath: [] }));
}

/** Lists as the system has them first; then lists of our own, as they are and after an update. */
async function fetchAll(names: readonly string[], store: string, o: PackageOptions): Promise<void> {
  const apt = join(o.cacheDir, 'apt');
  await mkdir(join(apt, 'lists', 'partial'), { recursive: true });
  await mkdir(join(apt, 'cache', 'archives', 'partial'), { recursive: true });
  const common = ['-qq', '-o', `Dir::Cache=${join(apt, 'cache')}`, '-o', 'Acquire::Retries=2'];
  // As root apt would drop to its own account, which cannot write here.
  if (process.getuid?.() === 0) common.push('-o', 'APT::Sandbox::User=root');
  const own = [...common, '-o', `Dir::State::lists=${join(apt, 'lists')}`];
  const attempts: (() => Promise<string[]>)[] = [
    async () => common,
    async () => own,
    async () => {
      o.onEvent?.({ type: 'updating' });
      const update = await run('apt-get', [...own, 'update'], { signal: o.signal });
      if (update.code !== 0) throw new GateError('fetch_failed', `apt-get update failed: ${lastLines(update.stderr)}`);
      return own;
    },
  ];
  let failure: unknown;
  for (const attempt of attempts) {
    try {
      const options = await attempt();
      for (const name of await absent(names, store)) await fetchOne(name, store, options, o);
      return;
    } catch (error) {
      if (o.signal?.aborted) throw error;
      failure = error;
    }
  }
  const fix = installLine(names);
  const why = failure instanceof Error ? failure.message : String(failure);
  throw new GateError('fetch_failed', `cannot fetch ${names.join(', ')}: ${why}`, { cause: failure, fix });
}

/** The packages of a tree. */
function parts(name: string): string[] {
  return name.split('+');
}

function installLine(names: readonly string[]): string {
  return `sudo apt-get install --no-install-recommends ${names.flatMap(parts).join(' ')}`;
}

async function fetchOne(name: string, store: string, options: readonly string[], o: PackageOptions): Promise<void> {
  const wanted = await resolvePackages(name, options, o.signal);
  o.onEvent?.({ type: 'fetching', packages: wanted });
  const work = join(store, `.${name}-${randomBytes(6).toString('hex')}`);
  const root = join(work, 'root');
  const debs = join(work, 'debs');
  await mkdir(root, { recursive: true });
  await mkdir(debs);
  try {
    const download = await run('apt-get', [...options, 'download', ...wanted], { cwd: debs, signal: o.signal });
    if (download.code !== 0) throw new GateError('fetch_failed', `apt-get download: ${lastLines(download.stderr)}`);
    for (const deb of await readdir(debs)) {
      const unpack = await run('dpkg', ['-x', join(debs, deb), root], { signal: o.signal });
      if (unpack.code !== 0) throw new GateError('fetch_failed', `dpkg -x ${deb}: ${lastLines(unpack.stderr)}`);
    }
    for (const path of CLUTTER) await rm(join(root, path), { recursive: true, force: true });
    await normalizeModes(root);
    await rename(root, join(store, name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** The packages of a tree and what they need that is not installed, as `name=version`. */
async function resolvePackages(tree: string, options: readonly string[], signal?: AbortSignal): Promise<string[]> {
  const asked = parts(tree);
  const args = [...options, '-s', '--no-install-recommends', 'install', ...asked];
  const plan = await run('apt-get', args, { env: { ...process.env, LC_ALL: 'C' }, signal });
  if (plan.code !== 0)
    throw new GateError('fetch_failed', `apt-get has no plan for ${tree}: ${lastLines(plan.stderr)}`);
  const wanted = new Map<string, string>(asked.map((name) => [name, name]));
  for (const match of plan.stdout.matchAll(/^Inst (\S+)(?: \[[^\]]*\])? \((\S+)/gm)) {
    const [, found, version] = match;
    if (found !== undefined && !NEVER_UNPACK.has(found)) wanted.set(found, `${found}=${version}`);
  }
  return [...wanted.values()];
}

/**
 * Takes set-id bits away: they would make the loader ignore `LD_LIBRARY_PATH`, and a cache is no place for them. Opens all to
 * reading, as some packages keep files for accounts that are not here.
 */
async function normalizeModes(path: string): Promise<void> {
  const info = await lstat(path);
  if (info.isSymbolicLink()) return;
  const needed = info.isDirectory() ? 0o755 : info.mode & 0o111 ? 0o555 : 0o444;
  await chmod(path, (info.mode & 0o777) | needed);
  if (!info.isDirectory()) return;
  for (const entry of await readdir(path)) await normalizeModes(join(path, entry));
}

async function describe(name: string, root: string): Promise<UnpackedPackage> {
  return { name, root, libraryPath: await libraryDirs(root) };
}

/** Debian keeps libraries in `usr/lib`, `lib` and the architecture's directory beneath each. */
async function libraryDirs(root: string): Promise<string[]> {
  const found: string[] = [];
  for (const base of ['usr/lib', 'lib']) {
    const names = await readdir(join(root, base)).catch(() => []);
    if (names.some((name) => /\.so(\.|$)/.test(name))) found.push(join(root, base));
    for (const name of names) if (/-linux-gnu[a-z0-9]*$/.test(name)) found.push(join(root, base, name));
  }
  return found;
}
