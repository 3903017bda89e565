/**
 * A program sees its files where its package would have put them, in a mount namespace of its own: the machine is left
 * as it was.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { quote } from '@postern/core';
import { ensurePackages, type RunResult, run, startDaemon } from '@postern/gate';
import { rigPrograms } from './cache.ts';

const ROOT = process.getuid?.() === 0;
/** A mount namespace of one's own; without privilege a user namespace as well, where the system lets one. */
const UNSHARE: readonly string[] = ROOT ? ['unshare', '-m'] : ['unshare', '-rm'];
/** As a system's services have it. */
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Whether programs can be run {@link asInstalled} here. */
export function canUnshare(): Promise<boolean> {
  return run('/usr/bin/env', [...UNSHARE, 'mount', '-t', 'tmpfs', 'tmpfs', '/run']).then(
    ({ code }) => code === 0,
    () => false,
  );
}

/** What {@link asInstalled} sets up. */
export interface InstalledOptions {
  /** Debian's package. */
  readonly name: string;
  /** A directory of the test's own. */
  readonly dir: string;
  /** Files of /etc, by path beneath it. */
  readonly etc: Readonly<Record<string, string>>;
  /** Lines put before those of /etc/passwd and /etc/group. */
  readonly passwd?: readonly string[];
  readonly group?: readonly string[];
  /** Run inside first, as root. */
  readonly prepare: string;
  /** The server to run; without one the namespace is merely kept. */
  readonly daemon?: string;
}

/** A program in its own view of the file system. */
export interface Installed extends AsyncDisposable {
  /** Runs a shell command inside. */
  run(command: string, input?: string): Promise<RunResult>;
  log(): string;
}

/**
 * Runs an unpacked Debian package as if it were installed: `/usr` and `/etc` are the system's with the package's over
 * them; `/run`, `/var/lib` and `/var/spool` are empty. For programs with paths built in. Linux, with overlayfs.
 */
export async function asInstalled(o: InstalledOptions): Promise<Installed> {
  const daemon = startDaemon({ name: o.name, ...(await installedCommand(o)), onLine: () => {} });
  const log = (): string => daemon.log.lines().join('\n');
  if ((await daemon.log.waitFor(/^inside$/)) === undefined) {
    throw new Error(`${o.name} ended (${await daemon.ended}): ${log()}`);
  }
  const enter = ['nsenter', '-t', String(daemon.pid), '-m', ...(ROOT ? [] : ['-U', '--preserve-credentials'])];
  return {
    log,
    run: (command, input = '') => run('/usr/bin/env', [...enter, 'sh', '-c', command], { input, cwd: '/' }),
    async [Symbol.asyncDispose]() {
      daemon.kill('SIGTERM');
      await daemon.ended;
    },
  };
}

/** What {@link asInstalled} starts: a shell that becomes the server once it has said `inside`. */
export async function installedCommand(
  o: InstalledOptions,
): Promise<{ command: string; args: readonly string[]; env: Record<string, string>; cwd: string }> {
  const [unpacked] = await ensurePackages([o.name], rigPrograms());
  const root = unpacked?.root ?? '/';
  const etc = join(o.dir, 'etc');
  const withLines = async (file: string, lines: readonly string[] = []): Promise<[string, string]> => [
    file,
    `${lines.map((line) => `${line}\n`).join('')}${await readFile(join('/etc', file), 'utf8')}`,
  ];
  const files = [await withLines('passwd', o.passwd), await withLines('group', o.group), ...Object.entries(o.etc)];
  for (const [path, text] of files) {
    await mkdir(dirname(join(etc, path)), { recursive: true });
    await writeFile(join(etc, path), text);
  }
  const script = [
    'set -e',
    `mount -t overlay overlay -o ${quote(`lowerdir=${root}/usr:/usr`)} /usr`,
    `mount -t overlay overlay -o ${quote(`lowerdir=${etc}:/etc`)} /etc`,
    'for dir in /run /var/lib /var/spool; do mount -t tmpfs -o mode=755 tmpfs $dir; done',
    o.prepare,
    'echo inside >&2',
    `exec ${o.daemon ?? 'sleep infinity'}`,
  ].join('\n');
  return { command: '/usr/bin/env', args: [...UNSHARE, 'sh', '-c', script], env: { PATH }, cwd: '/' };
}
