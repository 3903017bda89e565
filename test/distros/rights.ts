/** The right to mount and to chroot: root's own, or root's in a user namespace with a range of ids. */
import { spawn, spawnSync } from 'node:child_process';

const NAMESPACES = ['--mount', '--pid', '--fork', '--kill-child'];
/** Every id of a Debian root must be there: they come from /etc/subuid and /etc/subgid (newuidmap, Debian's package uidmap). */
const AS_ROOT = ['--user', '--map-root-user', '--map-auto', ...NAMESPACES];

/** `here`: go on; `namespace`: start again by {@link again}; else what is in the way, and what to do. */
export function rights(): 'here' | 'namespace' | { readonly missing: string } {
  if (spawnSync('apt-get', ['--version']).status !== 0)
    return { missing: 'there is no apt-get here, which knows where Debian is had; try a Debian or Ubuntu machine' };
  if (process.getuid?.() === 0) {
    if (works(NAMESPACES)) return 'here';
    return { missing: 'root may not mount here; try outside the container, or one with --privileged' };
  }
  if (works(AS_ROOT)) return 'namespace';
  return { missing: 'no root, and no user namespace with a range of ids; try: sudo apt-get install uidmap' };
}

function works(namespaces: readonly string[]): boolean {
  const script = 'mount -t tmpfs tmpfs /mnt && mount -t proc proc /proc';
  return spawnSync('unshare', [...namespaces, 'sh', '-c', script]).status === 0;
}

/** Runs this program again as root of a user namespace. Resolves with its exit status. */
export function again(): Promise<number> {
  const self = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  // No device can be made in there; debootstrap binds those of this machine when it takes itself to be in such a container.
  const env = { ...process.env, container: 'lxc' };
  const child = spawn('unshare', [...AS_ROOT, ...self], { stdio: 'inherit', env });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? 255));
  });
}
