/** An OpenSSH server of the gate: an ordinary user's process on a high port, with files of its own. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { GateContext } from './context.ts';
import { GateError } from './errors.ts';
import { giveTo, makeOwned, writeOwned } from './files.ts';
import { type KeyFile, type KeyType, makeKey } from './keys.ts';
import { descendants, type ProcessEntry, signalAll } from './processes.ts';
import type { Program } from './programs.ts';
import { type Server, startServer } from './server.ts';
import { helperLines } from './sshd-helpers.ts';

/** What may differ between the sshds of a gate. */
export interface SshdOptions {
  /** Lines of sshd_config, put before the gate's own: the first value of a keyword wins. `Match` blocks go last. */
  config?: readonly string[];
  /** Further public keys (`ssh-ed25519 AAAA…`, options in front allowed) beside the gate's client key. */
  authorizedKeys?: readonly string[];
  /** Leaves the gate's own client key out. Default false. */
  onlyGivenKeys?: boolean;
  /** Host key types, made anew. Default `['ed25519']`. */
  hostKeys?: readonly KeyType[];
  /** Further environment of sessions, beside PATH and what the account needs. */
  env?: Record<string, string>;
  /** A fixed port; default a free one. */
  port?: number;
}

/** A running OpenSSH server on 127.0.0.1. */
export interface SshServer extends Omit<Server, 'daemon' | 'start'> {
  readonly name: string;
  /** Host keys, in the order given in the options. */
  readonly hostKeys: readonly KeyFile[];
  /** The first host key's `ssh-ed25519 AAAA…`. */
  readonly hostKey: string;
  /** The first host key's `SHA256:…`. */
  readonly fingerprint: string;
  /** sshd's own log lines, at LogLevel VERBOSE unless the configuration says otherwise. */
  log(): readonly string[];
  /** Resolves at the first log line that matches, past or to come; `undefined` when sshd ended first. */
  waitForLog(pattern: RegExp): Promise<RegExpExecArray | undefined>;
  /** Cuts all connections: their sshd processes are killed, the listener stays. */
  dropConnections(): Promise<void>;
  /** Freezes listener and connections (SIGSTOP): the port still accepts, nothing answers. */
  pause(): Promise<void>;
  /** Undoes {@link pause}. */
  resume(): Promise<void>;
  /** Starts again on the same port with the same host keys, with other `config` lines when given. */
  start(o?: { config?: readonly string[] }): Promise<void>;
}

/** Starts an sshd of the gate. @throws GateError `start_failed` with the end of its log. */
export async function startSshd(
  context: GateContext,
  o: SshdOptions & { name: string; program: Program; client: Program; clientKey: string },
): Promise<SshServer> {
  const dir = join(context.dir, o.name);
  await makeOwned(context.account, dir);
  const hostKeys: KeyFile[] = [];
  for (const type of o.hostKeys ?? ['ed25519']) {
    const key = await makeKey(join(dir, `host_${type}`), { type, comment: o.name, client: o.client });
    hostKeys.push(key);
    await giveTo(context.account, key.path);
  }
  const keys = [...(o.onlyGivenKeys === true ? [] : [o.clientKey]), ...(o.authorizedKeys ?? [])];
  await writeOwned(context.account, join(dir, 'authorized_keys'), `${keys.join('\n')}\n`);

  const helpers = await helperLines(o.program);
  let lines = o.config ?? [];
  const server = await startServer(context, {
    name: o.name,
    port: o.port,
    ends: holdsConnections,
    async prepare(port) {
      const file = join(dir, 'sshd_config');
      await writeOwned(
        context.account,
        file,
        sshdConfig(context, { ...o, config: lines, dir, helpers, hostKeys, port }),
      );
      return {
        command: o.program.command,
        args: ['-D', '-e', '-f', file],
        env: { ...context.baseEnv, ...context.account.env, ...o.program.env },
        cwd: context.dir,
        ...context.account.as,
      };
    },
    listens: async ({ log }) =>
      (await log.waitFor(/^Server listening|Address already in use/))?.[0].startsWith('Server') === true,
  }).catch(withoutHelper);
  return {
    ...server,
    ...controls(server),
    name: o.name,
    hostKeys,
    hostKey: hostKeys[0]?.publicKey ?? '',
    fingerprint: hostKeys[0]?.fingerprint ?? '',
    log: () => server.daemon().log.lines(),
    waitForLog: (pattern) => server.daemon().log.waitFor(pattern),
    start(again = {}) {
      lines = again.config ?? o.config ?? [];
      return server.start();
    },
  };
}

/** From OpenSSH 9.8 on sshd is several programs; one without the others is a package that is not whole. */
function withoutHelper(error: unknown): never {
  const [, helper] = /(\S*\/sshd-\w+) does not exist/.exec(error instanceof Error ? error.message : '') ?? [];
  if (helper === undefined) throw error;
  const fix = 'sudo apt-get install --reinstall openssh-server';
  throw new GateError('start_failed', `sshd lacks its helper ${helper}; try: ${fix}`, { fix, cause: error });
}

/** What may be done to its connections. */
function controls(server: Server): Pick<SshServer, 'dropConnections' | 'pause' | 'resume'> {
  const connections = async (): Promise<number[]> =>
    (await descendants(server.daemon().pid)).filter(holdsConnections).map(({ pid }) => pid);
  let paused: readonly number[] = [];
  return {
    async dropConnections() {
      signalAll(await connections(), 'SIGKILL');
    },
    async pause() {
      // Remembered, since a child stopped just before it executes a command is not known by its name any more.
      paused = [...(await connections()), server.daemon().pid];
      signalAll(paused.toReversed(), 'SIGSTOP');
      await Promise.all(paused.map(hasStopped));
    },
    async resume() {
      signalAll([...new Set([...paused, ...(await connections()), server.daemon().pid])], 'SIGCONT');
      paused = [];
    },
  };
}

/** Told from the commands run over them, which end by themselves as they would far away. */
function holdsConnections(process: ProcessEntry): boolean {
  return process.name.startsWith('sshd');
}

interface SshdSetup {
  config: readonly string[];
  env?: Record<string, string>;
  dir: string;
  helpers: readonly string[];
  hostKeys: readonly KeyFile[];
  port: number;
}

function sshdConfig(context: GateContext, o: SshdSetup): string {
  const { account, baseEnv } = context;
  const session = Object.entries({ ...baseEnv, ...account.env, ...o.env });
  const matchAt = o.config.findIndex((line) => /^\s*Match\b/i.test(line));
  const plain = matchAt === -1 ? o.config : o.config.slice(0, matchAt);
  return [
    ...plain,
    ...o.helpers,
    'ListenAddress 127.0.0.1',
    `Port ${o.port}`,
    ...o.hostKeys.map((key) => `HostKey ${key.path}`),
    `AuthorizedKeysFile ${join(o.dir, 'authorized_keys')}`,
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    'UsePAM no',
    'StrictModes no',
    'PidFile none',
    'UseDNS no',
    'PrintMotd no',
    'PrintLastLog no',
    'LogLevel VERBOSE',
    'Subsystem sftp internal-sftp',
    `SetEnv ${session.map(([name, value]) => `"${name}=${value}"`).join(' ')}`,
    ...(matchAt === -1 ? [] : o.config.slice(matchAt)),
    '',
  ].join('\n');
}

/** Resolves when the process has stopped or gone: a signal takes effect when the process runs next. Without /proc, at once. */
async function hasStopped(pid: number): Promise<void> {
  for (;;) {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
    if (!/\) [^TtZX] /.test(stat)) return;
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}
