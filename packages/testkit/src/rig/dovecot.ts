/** A Dovecot that wants a login, of whichever release there is. */
import { chmod, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { quote, quoteAll } from '@postern/core';
import {
  findProgram,
  type Gate,
  MARK,
  makeOwned,
  type Program,
  type ProgramOptions,
  reachableProgram,
  run,
  startServer,
  takesVersionedFile,
  writeOwned,
  writeScript,
} from '@postern/gate';
import { rigPrograms } from './cache.ts';
import { dovecotConfig, versionedConfig } from './dovecot-config.ts';

/** A Dovecot that wants a login, over the gate's own Maildir: what the PREAUTH way is compared with. */
export interface LoginServer {
  readonly port: number;
  /** Any user name goes; this is the password for all of them. */
  readonly password: string;
  /** Its log so far. */
  log(): readonly string[];
  stop(): Promise<void>;
}

const SIEVE_PACKAGES = ['dovecot-sieve', 'dovecot-managesieved'];

/** Starts Dovecot as a daemon with no privilege (its own "rootless" mode), on 127.0.0.1, without TLS. */
export async function startDovecot(
  gate: Gate,
  o: Partial<ProgramOptions> & {
    settings?: readonly string[];
    password?: string;
    /** Serves ManageSieve as well, on this port; then it comes from the cache. */
    sieve?: number;
  } = {},
): Promise<LoginServer> {
  const { context } = gate;
  const found = await findProgram(
    {
      names: ['dovecot'],
      package: ['dovecot-core', 'dovecot-imapd', ...(o.sieve === undefined ? [] : SIEVE_PACKAGES)].join('+'),
      libraryDirs: ['usr/lib/dovecot', 'usr/lib/dovecot/modules/old-stats'],
    },
    { ...rigPrograms(), ...(o.sieve === undefined ? {} : { prefer: 'cache' }), ...o },
  );
  const unpacked = await reachableProgram(found, context.dir);
  const dir = join(context.dir, 'dovecot');
  for (const path of [dir, join(dir, 'run'), join(dir, 'state')]) {
    await makeOwned(context.account, path);
  }
  const versioned = await takesVersionedFile(context, unpacked);
  const program = unpacked.root === '/' ? unpacked : await withMovedModules(gate, unpacked, dir);
  const password = o.password ?? 'open-sesame';
  const names = await realNames(context.account);
  const config = join(dir, 'dovecot.conf');
  const self = await writeScript(dir, 'start', startLines(program, { dir, config, versioned }).join('\n'));

  const server = await startServer(context, {
    name: 'dovecot',
    async prepare(port) {
      const setup = { gate, dir, program, names, port, password, sieve: o.sieve, settings: o.settings ?? [] };
      await writeOwned(context.account, config, versioned ? versionedConfig(setup) : dovecotConfig(setup));
      return { command: self, args: [], env: context.baseEnv, cwd: dir, ...context.account.as };
    },
  });
  return { port: server.port, password, log: () => server.daemon().log.lines(), stop: () => server.stop() };
}

/**
 * Dovecot overwrites the environment it was started with, where nss_wrapper keeps its paths, so it gets the names that
 * the system's own files have for the account's ids.
 */
async function realNames(account: { uid: number; gid: number }): Promise<{ user: string; group: string }> {
  const [user, group] = await Promise.all(
    [
      ['passwd', account.uid],
      ['group', account.gid],
    ].map(async ([database, id]) => (await run('getent', [String(database), String(id)])).stdout.split(':')[0] ?? ''),
  );
  if (!user || !group) throw new Error(`dovecot needs an account with a name; uid ${account.uid} has none`);
  return { user, group };
}

/** Compiled into Dovecot; `imap-login` looks there and nowhere else. */
const MODULES = '/usr/lib/dovecot/modules';

/**
 * Makes an unpacked Dovecot find its modules: a copy of the one library that names their place, with another path of at
 * most the same length written over it.
 */
async function withMovedModules(gate: Gate, program: Program, dir: string): Promise<Program> {
  const place = join(gate.dir, 'modules');
  if (place.length > MODULES.length) throw new Error(`the path of ${gate.dir} is too long for dovecot`);
  await symlink(join(program.root, MODULES), place);
  const lib = join(dir, 'lib');
  await makeOwned(gate.account, lib);
  const name = 'libdovecot.so.0';
  const from = join(program.root, 'usr/lib/dovecot');
  await rewrite(join(from, name), join(lib, name), { from: MODULES, to: place });
  // Settings of further protocols are modules too, for the two programs that read the configuration.
  const settings = { from: `${MODULES}/settings`, to: `${place}/settings` };
  await rewrite(join(program.root, 'usr/bin/doveconf'), join(dir, 'doveconf'), settings);
  const libexec = join(dir, 'libexec');
  await makeOwned(gate.account, libexec);
  for (const each of await readdir(from)) if (each !== 'config') await symlink(join(from, each), join(libexec, each));
  await rewrite(join(from, 'config'), join(libexec, 'config'), settings);
  return { ...program, env: { ...program.env, LD_LIBRARY_PATH: `${lib}:${program.env.LD_LIBRARY_PATH}` } };
}

/** A copy of a binary with one path in it replaced by another of at most the same length. */
async function rewrite(file: string, copy: string, o: { from: string; to: string }): Promise<void> {
  const bytes = await readFile(file);
  const at = bytes.indexOf(`${o.from}\0`);
  if (at === -1) throw new Error(`${file} does not name ${o.from}`);
  bytes.fill(0, at, at + o.from.length).write(o.to, at);
  await writeFile(copy, bytes, { mode: 0o755 });
  await chmod(copy, 0o755);
}

/** The master would run `doveconf` from its built-in path; from a cache we run it first, and it becomes the master. */
function startLines(program: Program, o: { dir: string; config: string; versioned: boolean }): string[] {
  const { dir, config } = o;
  const master = [program.command, '-F', '-c', config];
  if (program.root === '/') return [`exec ${quoteAll(master)}`];
  const before = o.versioned ? ['-c', config, '-F'] : ['-f', 'service=master', '-c', config, '-m', 'master', '-e'];
  const env = Object.entries({ ...program.env, DOVECOT_PRESERVE_ENVS: `LD_LIBRARY_PATH ${MARK}` });
  const exports = env.map(([name, value]) => `export ${name}=${quote(value)}`);
  return [...exports, `exec ${quoteAll([join(dir, 'doveconf'), ...before, ...master])}`];
}
