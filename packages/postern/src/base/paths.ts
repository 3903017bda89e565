/** Where Postern's files and sockets lie; a directory open to others is refused, not repaired. */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { quote } from '@postern/core';
import { errnoOf, PosternError } from './errors.ts';

/** What the process was started with; the only reading of environment variables. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly uid: number;
  /** `$HOME`, or the passwd entry's home when that is unset. */
  readonly home: string;
  /** The passwd entry's home, which ssh uses whatever `$HOME` says. */
  readonly passwdHome: string;
}

/** Takes stock of the process. */
export function surroundings(env: Readonly<Record<string, string | undefined>> = process.env): Surroundings {
  const user = userInfo();
  return { env, uid: user.uid, home: env.HOME || user.homedir, passwdHome: user.homedir };
}

/** The configuration file that is used when none is named. */
export function defaultConfigFile(s: Surroundings): string {
  return join(s.env.XDG_CONFIG_HOME || join(s.home, '.config'), 'postern', 'config.toml');
}

/** The state directory (spool, local password) when the file names none. */
export function defaultStateDir(s: Surroundings): string {
  return join(s.env.XDG_STATE_HOME || join(s.home, '.local', 'state'), 'postern');
}

/**
 * Where sockets lie: `$XDG_RUNTIME_DIR/postern`; without that (cron, su), `/run/user/UID/postern`; where neither is a
 * directory of ours, `run` in the state directory.
 */
export function runtimeDir(s: Surroundings, stateDir: string): string {
  for (const base of [s.env.XDG_RUNTIME_DIR, `/run/user/${s.uid}`]) {
    if (base?.startsWith('/') && isOwnDirectory(base, s.uid)) return join(base, 'postern');
  }
  return join(stateDir, 'run');
}

function isOwnDirectory(path: string, uid: number): boolean {
  const found = statSync(path, { throwIfNoEntry: false });
  return found?.isDirectory() === true && found.uid === uid;
}

/** The spool's directory. */
export function spoolDirectory(stateDir: string): string {
  return join(stateDir, 'spool');
}

/** The Maildir for bounces that cannot go where they should. */
export function bouncesDirectory(stateDir: string): string {
  return join(stateDir, 'bounces');
}

/**
 * Where the daemon of `stateDir` listens, as a client finds it: the daemon's own pointer in the state directory, so that a client with
 * another environment (cron, a sendmail wrapper) finds it too; else where it would be with this one's.
 */
export function locateControlSocket(runtime: string, stateDir: string): string {
  try {
    return readlinkSync(controlPointer(stateDir));
  } catch {
    return controlSocketPath(runtime, stateDir);
  }
}

/** The symbolic link in the state directory that points to the control socket. */
export function controlPointer(stateDir: string): string {
  return join(stateDir, 'control.sock');
}

/** Points {@link controlPointer} to the socket of a daemon that has just begun to listen. */
export function pointToControlSocket(stateDir: string, path: string): void {
  const pointer = controlPointer(stateDir);
  const fresh = `${pointer}.${process.pid}`;
  rmSync(fresh, { force: true });
  symlinkSync(path, fresh);
  renameSync(fresh, pointer);
}

/** The control socket of the daemon that owns `stateDir`; its name differs from one state directory to another. */
export function controlSocketPath(runtime: string, stateDir: string): string {
  return join(runtime, `control-${createHash('sha256').update(stateDir).digest('hex').slice(0, 8)}.sock`);
}

/**
 * Makes the state directory, parents included. One that is there may be readable by others (what matters inside is 0700), but
 * must be ours and not theirs to write. Throws {@link PosternError} `config`.
 */
export function makeStateDirectory(path: string, uid: number): void {
  make(path);
  const found = statSync(path);
  if (!found.isDirectory() || found.uid !== uid) throw notOurs(path);
  if ((found.mode & 0o002) !== 0) {
    throw new PosternError('config', `everybody can write in the state directory ${path}`, {
      fix: `chmod o-w ${quote(path)}`,
    });
  }
}

/**
 * Makes a directory for sockets that only we can enter, parents included. Throws {@link PosternError} `config` when it is not ours, or
 * is open to others and not `own` (a directory that is Postern's alone is closed without asking).
 */
export function makeSocketDirectory(path: string, uid: number, own: boolean): void {
  make(path);
  const found = lstatSync(path);
  if (!found.isDirectory() || found.uid !== uid) throw notOurs(path);
  if ((found.mode & 0o077) === 0) return;
  if (own) {
    chmodSync(path, 0o700);
    return;
  }
  const mode = (found.mode & 0o777).toString(8);
  throw new PosternError('config', `a Unix socket needs a directory closed to others, and ${path} has mode ${mode}`, {
    fix: `chmod 700 ${quote(path)}`,
  });
}

/** Level by level: Node 20's `recursive` never returns where a file system will not have the directory (`/proc`). */
function makeAll(path: string): void {
  if (existsSync(path)) return;
  if (dirname(path) !== path) makeAll(dirname(path));
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST' || !existsSync(path)) throw error;
  }
}

function make(path: string): void {
  try {
    makeAll(path);
  } catch (error) {
    throw new PosternError('config', `the directory ${path} cannot be made (${errnoOf(error)})`, { cause: error });
  }
}

function notOurs(path: string): PosternError {
  return new PosternError('config', `${path} is not a directory of this user's`, {
    fix: `ls -ld ${quote(path)}   shows whose it is; name another one in the configuration`,
  });
}
