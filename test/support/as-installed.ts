import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { quote } from '@postern/core';
import { ensurePackages } from '@postern/gate';
import { rigPrograms } from '@postern/testkit/rig';
import { type Ran, run } from './postern.ts';

const ROOT = process.getuid?.() === 0;
/** A mount namespace of one's own; without privilege a user namespace as well, where the system lets one. */
const UNSHARE: readonly string[] = ROOT ? ['unshare', '-m'] : ['unshare', '-rm'];

/** Whether programs can be run {@link asInstalled} here. */
export const CAN_UNSHARE: boolean = await run('/usr/bin/env', [
  ...UNSHARE,
  'mount',
  '-t',
  'tmpfs',
  'tmpfs',
  '/run',
]).then(
  ({ code }) => code === 0,
  () => false,
);

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
  run(command: string, input?: string): Promise<Ran>;
  log(): string;
}

/**
 * Runs an unpacked Debian package as if it were installed: `/usr` and `/etc` are the system's with the package's over them; `/run`, `/var/lib`
 * and `/var/spool` are empty. For programs with paths built in. Linux, with overlayfs.
 */
export async function asInstalled(o: InstalledOptions): Promise<Installed> {
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
    `exec ${o.daemon ?? 'cat'}`,
  ].join('\n');
  const child = spawn('/usr/bin/env', [...UNSHARE, 'sh', '-c', script], { cwd: '/', stdio: ['pipe', 'pipe', 'pipe'] });
  const log = await started(child);
  const enter = ['nsenter', '-t', String(child.pid), '-m', ...(ROOT ? [] : ['-U', '--preserve-credentials'])];
  return {
    log,
    run: (command, input = '') => run('/usr/bin/env', [...enter, 'sh', '-c', command], { input, cwd: '/' }),
    async [Symbol.asyncDispose]() {
      const ended = new Promise((resolve) => child.once('close', resolve));
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGTERM');
      await ended;
    },
  };
}

/** Waits until the script is about to start its server; gives what it and the server say. */
function started(child: ChildProcess): Promise<() => string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const read = (chunk: Buffer): void => {
      text += chunk.toString('utf8');
      if (/^inside$/m.test(text)) resolve(() => text);
    };
    child.stdout?.on('data', read);
    child.stderr?.on('data', read);
    child.once('error', reject);
    child.once('close', (code) => reject(new Error(`ended with ${code}: ${text}`)));
  });
}
