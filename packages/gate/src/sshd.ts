import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { GateContext } from './context.ts';
import { GateError } from './errors.ts';
import { type KeyFile, type KeyType, makeKey } from './keys.ts';
import { giveTo, makeOwned, writeOwned } from './owned.ts';
import { onFreePort } from './port.ts';
import { descendants, signalAll } from './processes.ts';
import type { Program } from './programs.ts';
import { type Daemon, startDaemon } from './run.ts';

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
export interface SshServer {
  readonly name: string;
  readonly port: number;
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
  /** Process ids of the listener (first) and of everything beneath it. */
  pids(): Promise<number[]>;
  /** Cuts all connections: their sshd processes are killed, the listener stays. */
  dropConnections(): Promise<void>;
  /** Freezes listener and connections (SIGSTOP): the port still accepts, nothing answers. */
  pause(): Promise<void>;
  /** Undoes {@link pause}. */
  resume(): Promise<void>;
  /** Ends listener and connections. */
  stop(): Promise<void>;
  /** Starts again on the same port with the same host keys, with other `config` lines when given. */
  start(o?: { config?: readonly string[] }): Promise<void>;
}

/** Starts an sshd of the gate. @throws GateError `start_failed` with the end of its log. */
export async function startSshd(
  context: GateContext,
  o: SshdOptions & { name: string; program: Program; clientKey: string },
): Promise<SshServer> {
  const dir = join(context.dir, o.name);
  await makeOwned(context.account, dir);
  const hostKeys: KeyFile[] = [];
  for (const type of o.hostKeys ?? ['ed25519']) {
    const key = await makeKey(join(dir, `host_${type}`), { type, comment: o.name });
    hostKeys.push(key);
    await giveTo(context.account, key.path);
  }
  const keys = [...(o.onlyGivenKeys === true ? [] : [o.clientKey]), ...(o.authorizedKeys ?? [])];
  await writeOwned(context.account, join(dir, 'authorized_keys'), `${keys.join('\n')}\n`);

  const server = new Sshd(context, { ...o, dir, hostKeys });
  await onFreePort(o.port, (port) => server.listen(port));
  return server;
}

interface SshdSetup extends Omit<SshdOptions, 'hostKeys'> {
  name: string;
  program: Program;
  dir: string;
  hostKeys: readonly KeyFile[];
}

class Sshd implements SshServer {
  readonly name: string;
  readonly hostKeys: readonly KeyFile[];
  readonly #context: GateContext;
  readonly #setup: SshdSetup;
  #daemon: Daemon | undefined;
  #paused: readonly number[] = [];
  #port = 0;

  constructor(context: GateContext, setup: SshdSetup) {
    this.#context = context;
    this.#setup = setup;
    this.name = setup.name;
    this.hostKeys = setup.hostKeys;
  }

  get port(): number {
    return this.#port;
  }

  get hostKey(): string {
    return this.hostKeys[0]?.publicKey ?? '';
  }

  get fingerprint(): string {
    return this.hostKeys[0]?.fingerprint ?? '';
  }

  /** Starts once on this port; tells when the port was taken meanwhile. */
  async listen(port: number, config = this.#setup.config ?? []): Promise<SshServer | 'port taken'> {
    const { account, baseEnv, daemons, onEvent, dir } = this.#context;
    const file = join(this.#setup.dir, 'sshd_config');
    await writeOwned(account, file, sshdConfig(this.#context, { ...this.#setup, config, port }));
    const daemon = startDaemon({
      name: this.name,
      command: this.#setup.program.command,
      args: ['-D', '-e', '-f', file],
      env: { ...baseEnv, ...account.env, ...this.#setup.program.env },
      cwd: dir,
      ...account.as,
      onLine: (line) => onEvent({ type: 'log', server: this.name, line }),
    });
    daemons.add(daemon);
    const first = await daemon.log.waitFor(/^Server listening|Address already in use/);
    if (first?.[0].startsWith('Server') === true) {
      this.#daemon = daemon;
      this.#port = port;
      onEvent({ type: 'listening', server: this.name, port });
      return this;
    }
    daemon.kill('SIGKILL');
    const how = await daemon.ended;
    daemons.delete(daemon);
    if (first !== undefined) return 'port taken';
    throw new GateError('start_failed', `sshd did not start (${how}): ${daemon.log.tail()}`);
  }

  log(): readonly string[] {
    return this.#running().log.lines();
  }

  waitForLog(pattern: RegExp): Promise<RegExpExecArray | undefined> {
    return this.#running().log.waitFor(pattern);
  }

  async pids(): Promise<number[]> {
    const { pid } = this.#running();
    return [pid, ...(await descendants(pid)).map((process) => process.pid)];
  }

  async dropConnections(): Promise<void> {
    signalAll(await this.#sshdChildren(), 'SIGKILL');
  }

  async pause(): Promise<void> {
    // Remembered, since a child stopped just before it executes a command is not known by its name any more.
    this.#paused = [...(await this.#sshdChildren()), this.#running().pid];
    signalAll(this.#paused.toReversed(), 'SIGSTOP');
    await Promise.all(this.#paused.map(hasStopped));
  }

  async resume(): Promise<void> {
    signalAll([...new Set([...this.#paused, ...(await this.#sshdChildren()), this.#running().pid])], 'SIGCONT');
    this.#paused = [];
  }

  async stop(): Promise<void> {
    const daemon = this.#running();
    const children = await this.#sshdChildren();
    daemon.kill('SIGKILL');
    await daemon.ended;
    signalAll(children, 'SIGKILL');
    this.#context.daemons.delete(daemon);
  }

  async start(o: { config?: readonly string[] } = {}): Promise<void> {
    if (this.#daemon?.running === true) throw new GateError('bad_option', `${this.name} is running already`);
    await onFreePort(this.#port, (port) => this.listen(port, o.config));
  }

  /** The processes that hold connections; not the commands they run, which end by themselves as they would far away. */
  async #sshdChildren(): Promise<number[]> {
    const found = await descendants(this.#running().pid);
    return found.filter((process) => process.name.startsWith('sshd')).map((process) => process.pid);
  }

  #running(): Daemon {
    if (this.#daemon === undefined) throw new GateError('stopped', `${this.name} is not running`);
    return this.#daemon;
  }
}

function sshdConfig(context: GateContext, o: SshdSetup & { config: readonly string[]; port: number }): string {
  const { account, baseEnv } = context;
  const session = Object.entries({ ...baseEnv, ...account.env, ...o.env });
  const matchAt = o.config.findIndex((line) => /^\s*Match\b/i.test(line));
  const plain = matchAt === -1 ? o.config : o.config.slice(0, matchAt);
  return [
    ...plain,
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
