/** A gate is up when every part of it answers, and leaves nothing behind when it stops. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, realpath, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type Env, systemEnv } from '@postern/core';
import { reachableFile, reachableProgram } from './accessible.ts';
import { type Account, makeAccount } from './account.ts';
import type { GateContext } from './context.ts';
import { GateError } from './errors.ts';
import type { OnGateEvent } from './event.ts';
import { startExim } from './exim.ts';
import { makeOwned, makeOwnedParents, writeOwned } from './files.ts';
import { type ImapdOptions, writeImapd } from './imapd.ts';
import { type KeyFile, makeKey } from './keys.ts';
import { makeMaildir } from './maildir.ts';
import { writeNetcat } from './netcat.ts';
import { MARK } from './processes.ts';
import { findNssWrapper, findProgram, PROGRAMS, type Program, type ProgramOptions } from './programs.ts';
import { execLine, writeScript } from './script.ts';
import type { SmtpServer, SmtpServerOptions } from './smtp-server.ts';
import { type SshdOptions, type SshServer, startSshd } from './sshd.ts';
import { teardown } from './teardown.ts';

/** What a gate is made of. Only `cacheDir` must be given. */
export interface GateOptions extends ProgramOptions {
  /** Where the gate's directory is made; a short path, as Unix sockets lie beneath. Default the system's. */
  tmpDir?: string;
  /** Login name of the far account. Default `gate`. Without nss_wrapper (macOS) it is the caller's own account. */
  user?: string;
  /** Login shell of the far account. Default `/bin/sh`; `/bin/bash` reads `.bashrc` for every command. */
  shell?: string;
  /** As root: what everything runs as. Default {@link DEFAULT_ROOT_ID} for both. */
  uid?: number;
  gid?: number;
  /** Files of the far home, by relative path, before anything starts: `{ '.bashrc': 'echo hello' }`. */
  files?: Readonly<Record<string, string>>;
  /** The sshd named `gate`. */
  sshd?: SshdOptions;
  /** `false` leaves `imapd` out. */
  imapd?: ImapdOptions | false;
  /** Exim on a port of its own; `false` leaves it out. */
  smtp?: SmtpServerOptions | false;
  env?: Env;
}

/** Files with which `ssh` reaches the gate and nothing else. */
export interface GateClient {
  /** ssh_config that names every sshd of the gate: `ssh -F configFile gate`. */
  configFile: string;
  knownHostsFile: string;
  identityFile: string;
  key: KeyFile;
  /** A directory with `ssh` and its companions, for PATH; absent where this machine has them installed. */
  bin?: string;
}

/** A sshd beyond the first. */
export interface FurtherSshd extends SshdOptions {
  /** Its name in the ssh_config, and of its directory. */
  name: string;
  /** Lines for its entry in the ssh_config: `['ProxyJump gate']`. */
  client?: readonly string[];
}

/** A running gate. Dispose it, or call `stop()`. */
export interface Gate extends AsyncDisposable {
  /** Holds everything of this gate; gone after `stop()`. */
  readonly dir: string;
  /** Commands of the far side, first in its PATH. */
  readonly bin: string;
  readonly account: Account;
  /** Home of the far account. */
  readonly home: string;
  /** Where `imapd` reads and the SMTP server delivers. */
  readonly maildir: string;
  readonly ssh: SshServer;
  readonly client: GateClient;
  /** Absent with `smtp: false`. */
  readonly smtp: SmtpServer | undefined;
  /** What its servers need of the gate; for starting more of them in it. */
  readonly context: GateContext;
  /** Starts one more sshd in the same account, for jump chains. */
  addSshd(o: FurtherSshd): Promise<SshServer>;
  /** Puts a shell script into the far PATH; `body` follows the `#!/bin/sh` line. */
  command(name: string, body: string): Promise<void>;
  /** Makes the far service name `smtp` stand for another port. */
  useSmtpPort(port: number): Promise<void>;
  /** Everything the servers wrote, for messages of failed tests. */
  logs(): Promise<string>;
  /** Ends every process of the gate and removes its directory. Any number of calls. */
  stop(): Promise<void>;
}

/**
 * Starts a throwaway gate on 127.0.0.1: sshd, `imapd` and an SMTP server, with no privilege, nothing installed, and nothing of
 * the caller's home read or written. What the system lacks is fetched into `cacheDir` first.
 *
 * @throws GateError when a program cannot be had or a server does not start; nothing is left behind then.
 */
export async function startGate(o: GateOptions): Promise<Gate> {
  const found = await findParts(o);
  const base = await realpath(o.tmpDir ?? tmpdir());
  const dir = await mkdtemp(join(base, 'pg-'));
  const abort = new AbortController();
  const signal = o.signal === undefined ? abort.signal : AbortSignal.any([o.signal, abort.signal]);
  const daemons: GateContext['daemons'] = new Set();
  try {
    const context = await prepare(o, { dir, signal, daemons, nssWrapper: found.nssWrapper });
    return await compose(o, { context, found, abort });
  } catch (error) {
    await teardown({ dir, daemons });
    throw error;
  }
}

interface Parts {
  sshd: Program;
  imap: Program | undefined;
  exim: Program | undefined;
  netcat: Program;
  client: Program;
  nssWrapper: string | undefined;
}

async function findParts(o: GateOptions): Promise<Parts> {
  return {
    nssWrapper: await findNssWrapper(o),
    sshd: await findProgram(PROGRAMS.sshd, o),
    netcat: await findProgram(PROGRAMS.netcat, o),
    client: await findProgram(PROGRAMS.client, o),
    imap: o.imapd === false ? undefined : await findProgram(PROGRAMS.imap, o),
    exim: o.smtp === false ? undefined : await findProgram(PROGRAMS.exim, o),
  };
}

const IGNORE: OnGateEvent = () => undefined;

async function prepare(
  o: GateOptions,
  given: { dir: string; signal: AbortSignal; daemons: GateContext['daemons']; nssWrapper: string | undefined },
): Promise<GateContext> {
  const { dir } = given;
  const home = join(dir, 'home');
  const bin = join(dir, 'bin');
  const account = await makeAccount({
    dir,
    home,
    user: o.user ?? 'gate',
    shell: o.shell ?? '/bin/sh',
    uid: o.uid,
    gid: o.gid,
    nssWrapper: given.nssWrapper === undefined ? undefined : await reachableFile(given.nssWrapper, dir),
  });
  for (const path of [dir, home, bin]) await makeOwned(account, path);
  for (const [path, text] of Object.entries(o.files ?? {})) await writeHomeFile(account, path, text);
  return {
    dir,
    bin,
    account,
    env: o.env ?? systemEnv,
    signal: given.signal,
    onEvent: o.onEvent ?? IGNORE,
    baseEnv: { PATH: `${bin}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin`, [MARK]: dir },
    daemons: given.daemons,
  };
}

async function writeHomeFile(account: Account, path: string, text: string): Promise<void> {
  const full = join(account.home, path);
  if (!full.startsWith(`${account.home}/`)) throw new GateError('bad_option', `${path} is not inside the far home`);
  await makeOwnedParents(account, account.home, full);
  await writeOwned(account, full, text);
}

async function compose(
  o: GateOptions,
  given: { context: GateContext; found: Parts; abort: AbortController },
): Promise<Gate> {
  const { context, found, abort } = given;
  const { account, dir } = context;
  const at = (program: Program): Promise<Program> => reachableProgram(program, dir);
  const maildir = join(account.home, 'Maildir');
  await makeMaildir(maildir, account);
  const smtp = found.exim && (await startExim(context, { ...smtpOptions(o), program: await at(found.exim), maildir }));
  if (found.imap !== undefined) {
    const options = o.imapd === false ? {} : (o.imapd ?? {});
    await writeImapd(context, { ...options, program: await at(found.imap), maildir });
  }
  const netcat = await at(found.netcat);
  await writeNetcat(context, netcat, smtp?.port);
  const client = await makeClient(dir, found.client);
  const program = await at(found.sshd);
  const entries: ClientEntry[] = [];
  const addSshd = async (further: FurtherSshd): Promise<SshServer> => {
    if (abort.signal.aborted) throw new GateError('stopped', 'the gate is stopped');
    const server = await startSshd(context, {
      ...{ ...further, program, client: found.client },
      clientKey: client.key.publicKey,
    });
    entries.push({ server, lines: further.client ?? [] });
    await writeClientFiles(client, account.user, entries);
    return server;
  };
  const ssh = await addSshd({ ...o.sshd, name: 'gate' });
  let stopping: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    abort.abort(new GateError('stopped', 'the gate is stopped'));
    stopping ??= teardown(context);
    return stopping;
  };
  return {
    dir,
    bin: context.bin,
    account,
    home: account.home,
    maildir,
    ssh,
    client,
    smtp,
    context,
    addSshd,
    async command(name, body) {
      await writeScript(context.bin, name, body);
    },
    useSmtpPort: (port) => writeNetcat(context, netcat, port),
    async logs() {
      const sshds = entries.map(({ server }) => `== ${server.name}\n${server.log().join('\n')}`);
      return [...sshds, ...(smtp === undefined ? [] : [`== ${smtp.kind}\n${await smtp.log()}`])].join('\n');
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

function smtpOptions(o: GateOptions): SmtpServerOptions {
  return o.smtp === false ? {} : (o.smtp ?? {});
}

async function makeClient(dir: string, program: Program): Promise<GateClient> {
  const own = join(dir, 'client');
  await mkdir(own, { mode: 0o700 });
  const key = await makeKey(join(own, 'id_ed25519'), { comment: 'postern gate client', client: program });
  return {
    configFile: join(own, 'config'),
    knownHostsFile: join(own, 'known_hosts'),
    identityFile: key.path,
    key,
    ...(program.root === '/' ? {} : { bin: await writeClientCommands(join(own, 'bin'), program) }),
  };
}

/** Commands of an unpacked OpenSSH client, each with the libraries it needs. */
async function writeClientCommands(dir: string, { command, env }: Program): Promise<string> {
  await mkdir(dir, { mode: 0o755 });
  for (const name of ['ssh', 'ssh-keygen', 'ssh-add', 'ssh-agent', 'ssh-keyscan', 'scp', 'sftp']) {
    const beside = join(dirname(command), name);
    if (existsSync(beside)) await writeScript(dir, name, execLine({ command: beside, env }));
  }
  return dir;
}

interface ClientEntry {
  server: SshServer;
  lines: readonly string[];
}

async function writeClientFiles(client: GateClient, user: string, entries: readonly ClientEntry[]): Promise<void> {
  const hosts = entries.map(({ server, lines }) =>
    [
      `Host ${server.name}`,
      ...lines.map((line) => `  ${line}`),
      '  HostName 127.0.0.1',
      `  Port ${server.port}`,
      `  User ${user}`,
      `  IdentityFile ${client.identityFile}`,
      '  IdentitiesOnly yes',
      '  IdentityAgent none',
      `  UserKnownHostsFile ${client.knownHostsFile}`,
      '  GlobalKnownHostsFile /dev/null',
      '  StrictHostKeyChecking yes',
      '',
    ].join('\n'),
  );
  const known = entries.flatMap(({ server }) =>
    server.hostKeys.map((key) => `[127.0.0.1]:${server.port} ${key.publicKey}\n`),
  );
  await writeFile(client.knownHostsFile, known.join(''), { mode: 0o600 });
  await writeFile(client.configFile, hosts.join('\n'), { mode: 0o600 });
}
