/** Dovecot's `imap` as a command that greets PREAUTH on its standard streams; how it takes its settings is found out from it. */
import { basename, dirname, join } from 'node:path';
import type { GateContext } from './context.ts';
import { GateError } from './errors.ts';
import { makeOwned, writeOwned } from './files.ts';
import { MARK } from './processes.ts';
import type { Program } from './programs.ts';
import { run } from './run.ts';
import { execLine, writeScript } from './script.ts';

/** How `imapd` behaves. */
export interface ImapdOptions {
  /** Dovecot settings by name, as in dovecot.conf: `{ imap_idle_notify_interval: '2s' }`. They win over the gate's own. */
  settings?: Record<string, string>;
}

interface ImapdSetup extends ImapdOptions {
  program: Program;
  maildir: string;
  name?: string;
}

/** Writes the command and returns its path. @throws GateError `bad_option` with Dovecot's words when it refuses the settings. */
export async function writeImapd(context: GateContext, o: ImapdSetup): Promise<string> {
  const versioned = await takesVersionedFile(context, o.program);
  const line = versioned ? await lineWithFile(context, o) : lineWithEnvironment(context, o);
  return writeScript(context.bin, o.name ?? 'imapd', line);
}

/** Dovecot 2.4 wants a configuration to say which version it is for, and refuses one that does not; 2.3 does not know that setting. */
export const DOVECOT_VERSIONS: readonly string[] = [
  'dovecot_config_version = 2.4.0',
  'dovecot_storage_version = 2.4.0',
];

/** Whether it is Dovecot 2.4 or later, found out from its doveconf. */
export async function takesVersionedFile(context: GateContext, program: Program): Promise<boolean> {
  const file = join(context.dir, 'dovecot-versions.conf');
  await writeOwned(context.account, file, `${DOVECOT_VERSIONS.join('\n')}\n`);
  const read = await doveconf(program, file).catch(() => undefined);
  return read !== undefined && !/unknown setting/i.test(read.stderr);
}

/** The reader of configurations that came with this `imap` (in `lib/dovecot`) or `dovecot` (in `sbin`). */
function doveconfOf(program: Program): string {
  const dir = dirname(program.command);
  return join(dir, basename(dir) === 'dovecot' ? '../../bin' : '../bin', 'doveconf');
}

function doveconf(program: Program, file: string): ReturnType<typeof run> {
  return run(doveconfOf(program), ['-n', '-c', file], { env: { PATH: '/usr/bin:/bin', ...program.env } });
}

function environmentOf(context: GateContext, program: Program): Record<string, string> {
  const { account, dir } = context;
  return { USER: account.user, HOME: account.home, PATH: '/usr/bin:/bin', [MARK]: dir, ...program.env };
}

/** `DOVECONF_ENV` makes Dovecot 2.3 read settings from its environment, in upper case; 2.4 ignores it, and takes the system's. */
function lineWithEnvironment(context: GateContext, { program, maildir, settings = {} }: ImapdSetup): string {
  const all: Record<string, string> = {
    mail_location: `maildir:${maildir}`,
    mail_plugins: 'imap_zlib',
    ...(program.root === '/' ? {} : { mail_plugin_dir: `${program.root}/usr/lib/dovecot/modules` }),
    ...settings,
  };
  const env: Record<string, string> = { ...environmentOf(context, program), DOVECONF_ENV: '1' };
  for (const [name, value] of Object.entries(all)) env[name.toUpperCase()] = value;
  return execLine({ command: program.command, env, clean: true });
}

/**
 * `doveconf -F` reads the file and becomes the program named behind it, as `imap -c FILE` would have it done by the doveconf at its
 * compiled-in path. Of the environment only what `DOVECOT_PRESERVE_ENVS` names reaches that program (Dovecot 2.4.1).
 */
async function lineWithFile(context: GateContext, o: ImapdSetup): Promise<string> {
  const { program, maildir, settings = {} } = o;
  const { account, dir } = context;
  const own = join(dir, o.name ?? 'imapd');
  for (const path of [own, join(own, 'run'), join(own, 'state')]) await makeOwned(account, path);
  const all: Record<string, string> = {
    base_dir: join(own, 'run'),
    state_dir: join(own, 'state'),
    mail_home: account.home,
    mail_driver: 'maildir',
    // Absolute: with `~/` it dies at the first SELECT.
    mail_path: maildir,
    ssl: 'no',
    // They must exist, though nothing runs as them; Debian's own come with an installed package only.
    default_internal_user: 'nobody',
    default_login_user: 'nobody',
    ...settings,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name} = ${value}`);
  const file = join(own, 'dovecot.conf');
  await writeOwned(
    account,
    file,
    [...DOVECOT_VERSIONS, ...lines, 'namespace inbox {', '  inbox = yes', '}', ''].join('\n'),
  );
  const { code, stderr } = await doveconf(program, file);
  if (code !== 0)
    throw new GateError('bad_option', `Dovecot refuses its settings: ${stderr.trim().split('\n').at(-1)}`);
  const env = environmentOf(context, program);
  return execLine({
    command: doveconfOf(program),
    args: ['-c', file, '-F', program.command, '-c', file],
    env: { ...env, DOVECOT_PRESERVE_ENVS: Object.keys(env).join(' ') },
    clean: true,
  });
}
