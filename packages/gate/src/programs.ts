/** Where each program comes from, and what its loader has to be told. */
import { constants } from 'node:fs';
import { access, realpath, stat } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { GateError } from './errors.ts';
import { ensurePackages, forgetPackage, type PackageOptions, type UnpackedPackage } from './packages.ts';
import { run } from './run.ts';

/** Where programs come from. */
export interface ProgramOptions extends PackageOptions {
  /** What the caller's PATH holds, colon separated. Default: the usual system directories. */
  path?: string;
  /** `system` (default) takes an installed program when there is one that fits; `cache` takes the cached package wherever apt is. */
  prefer?: 'system' | 'cache';
}

/** A program ready to run. */
export interface Program {
  /** Absolute path. */
  command: string;
  /** What the environment must hold for it to run; empty for a system program. */
  env: Record<string, string>;
  /** `/` for a system program, else the unpacked package. */
  root: string;
}

/** How to find one program. */
export interface ProgramSpec {
  /** Names to look for in PATH, and beneath `usr/bin`, `usr/sbin`, `bin` and `sbin` of the package. */
  names: readonly string[];
  /** The Debian package, or several joined by `+`. */
  package: string;
  /** Its directories, relative to a root, when it is no command for PATH: `usr/lib/dovecot`. */
  dirs?: readonly string[];
  /** Directories of private libraries, relative to the package's root. */
  libraryDirs?: readonly string[];
  /** Whether an installed program will do. Default: any will. */
  fits?: (command: string) => Promise<boolean>;
}

/** Where systems keep daemons that are not in an ordinary user's PATH. */
const SYSTEM_DIRS = [
  '/usr/local/sbin',
  '/usr/local/bin',
  '/usr/sbin',
  '/usr/bin',
  '/sbin',
  '/bin',
  '/opt/homebrew/sbin',
  '/opt/homebrew/bin',
];
const SYSTEM_ROOTS = ['/', '/usr/local', '/opt/homebrew'];
const PACKAGE_DIRS = ['usr/sbin', 'usr/bin', 'sbin', 'bin'];

/** The program, installed or unpacked from its package. @throws GateError as {@link ensurePackages} does. */
export async function findProgram(spec: ProgramSpec, o: ProgramOptions): Promise<Program> {
  if (o.prefer !== 'cache') {
    const installed = await installedProgram(spec, o);
    if (installed !== undefined) return installed;
  }
  try {
    return await packagedProgram(spec, o);
  } catch (error) {
    const noApt = error instanceof GateError && error.code === 'program_missing';
    const installed = noApt && o.prefer === 'cache' ? await installedProgram(spec, o) : undefined;
    if (installed === undefined) throw error;
    return installed;
  }
}

async function installedProgram(spec: ProgramSpec, o: ProgramOptions): Promise<Program | undefined> {
  const own = spec.dirs?.flatMap((dir) => SYSTEM_ROOTS.map((root) => join(root, dir)));
  const dirs = own ?? new Set([...(o.path ?? '').split(delimiter).filter((dir) => dir !== ''), ...SYSTEM_DIRS]);
  for (const dir of dirs) {
    for (const name of spec.names) {
      const command = join(dir, name);
      if (!(await executable(command))) continue;
      if (spec.fits === undefined || (await spec.fits(command))) return { command, env: {}, root: '/' };
    }
  }
  return undefined;
}

async function packagedProgram(spec: ProgramSpec, o: ProgramOptions): Promise<Program> {
  const [program, unpacked] = await unpackedProgram(spec, o);
  const missing = await missingLibraries(program);
  if (missing.length === 0) return program;
  // Fetched when the system had these libraries, which it has lost since.
  await forgetPackage(unpacked);
  const [again] = await unpackedProgram(spec, o);
  const still = await missingLibraries(again);
  if (still.length === 0) return again;
  throw new GateError('fetch_failed', `${again.command} lacks libraries: ${still.join(', ')}`);
}

async function unpackedProgram(spec: ProgramSpec, o: ProgramOptions): Promise<[Program, UnpackedPackage]> {
  const [unpacked] = await ensurePackages([spec.package], o);
  if (unpacked === undefined) throw new GateError('fetch_failed', `nothing came of package ${spec.package}`);
  const { root } = unpacked;
  for (const dir of spec.dirs ?? PACKAGE_DIRS) {
    for (const name of spec.names) {
      const command = join(root, dir, name);
      if (!(await executable(command))) continue;
      const libraries = [...(spec.libraryDirs ?? []).map((lib) => join(root, lib)), ...unpacked.libraryPath];
      const env: Record<string, string> =
        libraries.length === 0 || root === '/' ? {} : { LD_LIBRARY_PATH: libraries.join(':') };
      return [{ command, env, root }, unpacked];
    }
  }
  throw new GateError(
    'fetch_failed',
    `package ${spec.package} holds no ${spec.names.join(' or ')} (looked in ${root})`,
  );
}

/** Libraries the loader would not find. */
async function missingLibraries(program: Program): Promise<string[]> {
  const { stdout } = await run('ldd', [program.command], { env: { ...program.env, PATH: '/usr/bin:/bin' } });
  return [...stdout.matchAll(/^\s*(\S+) => not found/gm)].map((match) => match[1] ?? '');
}

/** Whether this account may run the file. */
export async function executable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** OpenBSD's netcat; the traditional one may close before the last replies came. */
async function isOpenbsdNetcat(command: string): Promise<boolean> {
  if (process.platform !== 'linux') return true;
  const { stdout, stderr } = await run(await realpath(command), ['-h']);
  return `${stdout}${stderr}`.includes('OpenBSD');
}

/** A set-id Exim ignores preloaded libraries, and so the gate's own account. */
async function isPlain(command: string): Promise<boolean> {
  return ((await stat(command)).mode & 0o6000) === 0;
}

/** The parts a gate is made of. */
export const PROGRAMS: {
  sshd: ProgramSpec;
  imap: ProgramSpec;
  exim: ProgramSpec;
  netcat: ProgramSpec;
  client: ProgramSpec;
} = {
  sshd: { names: ['sshd'], package: 'openssh-server' },
  imap: {
    names: ['imap'],
    package: 'dovecot-core+dovecot-imapd',
    dirs: ['usr/lib/dovecot', 'usr/libexec/dovecot', 'lib/dovecot', 'libexec/dovecot'],
    libraryDirs: ['usr/lib/dovecot'],
  },
  exim: { names: ['exim4', 'exim'], package: 'exim4-daemon-light', fits: isPlain },
  netcat: { names: ['nc.openbsd', 'netcat', 'nc'], package: 'netcat-openbsd', fits: isOpenbsdNetcat },
  client: { names: ['ssh'], package: 'openssh-client' },
};

/** The preloaded library that gives a process its own passwd file; `undefined` where it cannot be had (not Linux, no apt). */
export function findNssWrapper(o: ProgramOptions): Promise<string | undefined> {
  return findPreload({ file: 'libnss_wrapper.so', package: 'libnss-wrapper' }, o);
}

/** A library for `LD_PRELOAD`, installed or unpacked from its package; `undefined` where it cannot be had (not Linux, no apt). */
export async function findPreload(
  library: { file: string; package: string },
  o: ProgramOptions,
): Promise<string | undefined> {
  if (process.platform !== 'linux') return undefined;
  const triplet = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  const inside = [`usr/lib/${triplet}`, 'usr/lib64', 'usr/lib'].map((dir) => join(dir, library.file));
  const look = async (root: string): Promise<string | undefined> => {
    for (const path of inside) if (await readable(join(root, path))) return join(root, path);
    return undefined;
  };
  const installed = o.prefer === 'cache' ? undefined : await look('/');
  if (installed !== undefined) return installed;
  try {
    const [unpacked] = await ensurePackages([library.package], o);
    return unpacked === undefined ? undefined : await look(unpacked.root);
  } catch (error) {
    if (error instanceof GateError && error.code === 'program_missing') return undefined;
    throw error;
  }
}

async function readable(path: string): Promise<boolean> {
  return access(path, constants.R_OK).then(
    () => true,
    () => false,
  );
}
