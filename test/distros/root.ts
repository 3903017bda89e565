/** Bare Debian roots: made once by debootstrap into a cache, and used through an overlay, so that each run finds them bare. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Ended, execute, must } from './run.ts';

/** Debian's releases by their numbers, oldest first. */
export const SUITES: Readonly<Record<string, string>> = { '12': 'bookworm', '13': 'trixie' };

/** What npm's build of Node needs beyond a minimal root, and what the README takes for granted: certificates, no more. */
const PACKAGES = ['libatomic1', 'ca-certificates'];
/** Where a machine's own authorities are put, for a registry behind one of them. */
const AUTHORITIES = '/etc/ssl/certs/ca-certificates.crt';

/** Where things are kept between runs. */
export interface Cache {
  readonly dir: string;
  readonly log: string;
}

/**
 * The mirror this machine's apt takes Debian from. Throws where apt has none: then it must be named.
 */
export function ownMirror(): string {
  const format = '$(REPO_URI) $(ORIGIN) $(LABEL)';
  const list = execFileSync('apt-get', ['indextargets', '--format', format, 'Created-By: Packages'], {
    encoding: 'utf8',
  });
  const mirror = list
    .split('\n')
    .find((line) => line.endsWith(' Debian Debian'))
    ?.split(' ')[0];
  if (mirror === undefined) throw new Error('apt knows no Debian mirror here; name one with --mirror URL');
  return mirror;
}

/** Makes the bare root of a suite, unless it lies in the cache. Resolves with its path. */
export async function bareRoot(suite: string, o: Cache & { readonly mirror: string }): Promise<string> {
  const root = join(o.dir, 'roots', suite);
  if (existsSync(root)) return root;
  const draft = `${root}.draft`;
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { recursive: true });
  const { command, env } = await debootstrap(suite, o);
  const include = `--include=${PACKAGES.join(',')}`;
  await must(`root of ${suite}`, [command, '--variant=minbase', include, suite, draft, o.mirror], { log: o.log, env });
  // Nothing is started in there by a package that is installed, and a suite that is no release may be past its date.
  writeFileSync(join(draft, 'usr/sbin/policy-rc.d'), '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  writeFileSync(join(draft, 'etc/apt/apt.conf.d/90distros'), 'Acquire::Check-Valid-Until "false";\n');
  for (const file of ['/etc/resolv.conf', '/etc/hosts']) copyFileSync(file, join(draft, file));
  if (existsSync(AUTHORITIES)) copyFileSync(AUTHORITIES, join(draft, AUTHORITIES));
  renameSync(draft, root);
  return root;
}

/** The system's debootstrap, or Debian's package of it, unpacked; with a script for suites it has never heard of. */
async function debootstrap(suite: string, o: Cache): Promise<{ command: string; env: NodeJS.ProcessEnv }> {
  const unpacked = join(o.dir, 'debootstrap');
  if (!existsSync(unpacked)) {
    const draft = `${unpacked}.draft`;
    rmSync(draft, { recursive: true, force: true });
    mkdirSync(draft, { recursive: true });
    await must('debootstrap', ['apt-get', '-o', 'APT::Sandbox::User=root', 'download', 'debootstrap'], {
      log: o.log,
      cwd: draft,
    });
    const [deb = ''] = readdirSync(draft).filter((name) => name.endsWith('.deb'));
    await must('debootstrap', ['dpkg', '-x', join(draft, deb), draft], { log: o.log });
    renameSync(draft, unpacked);
  }
  const share = join(unpacked, 'usr/share/debootstrap');
  const script = join(share, 'scripts', suite);
  if (!existsSync(script)) copyFileSync(join(share, 'scripts/sid'), script);
  return { command: join(unpacked, 'usr/sbin/debootstrap'), env: { ...process.env, DEBOOTSTRAP_DIR: share } };
}

/** A root in use: bare at first, everything written to it is gone afterwards. */
export class Room implements Disposable {
  readonly dir: string;
  readonly #root: string;
  readonly #log: string;

  /** `dir` is made, and removed at the end. */
  constructor(root: string, o: { readonly dir: string; readonly log: string }) {
    this.dir = o.dir;
    this.#root = root;
    this.#log = o.log;
    for (const name of ['upper', 'work', 'merged']) mkdirSync(join(o.dir, name), { recursive: true });
  }

  /** Where a path of the root is written from outside, before anything runs in it. */
  outside(path: string): string {
    return join(this.dir, 'upper', path);
  }

  /** Runs a command in there, as root, in `cwd`; mounts and processes end with it. */
  run(command: readonly string[], o: { readonly cwd: string; readonly env: Record<string, string> }): Promise<Ended> {
    const merged = join(this.dir, 'merged');
    const layers = `lowerdir=${this.#root},upperdir=${this.outside('')},workdir=${join(this.dir, 'work')}`;
    const script = [
      'set -e',
      `mount -t overlay overlay -o "$1" "$2"`,
      'mount --rbind /dev "$2/dev"',
      'mount -t proc proc "$2/proc"',
      'root=$2 cwd=$3; shift 3',
      `exec chroot "$root" sh -c 'cd "$1" && shift && exec "$@"' sh "$cwd" "$@"`,
    ].join('\n');
    const inside = ['unshare', '--mount', '--pid', '--fork', '--kill-child', 'sh', '-c', script, 'sh'];
    return execute([...inside, layers, merged, o.cwd, ...command], { log: this.#log, env: o.env });
  }

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}
