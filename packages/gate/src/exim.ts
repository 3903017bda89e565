import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { GateContext } from './context.ts';
import { GateError } from './errors.ts';
import { makeOwned, writeOwned } from './owned.ts';
import { onFreePort, waitForGreeting } from './port.ts';
import { descendants, signalAll } from './processes.ts';
import type { Program } from './programs.ts';
import { type Daemon, startDaemon } from './run.ts';
import { DEFAULT_SIZE_LIMIT, GATE_HOSTNAME, type SmtpServer, type SmtpServerOptions } from './smtp-server.ts';
import { execLine, writeScript } from './wrapper.ts';

/** Starts Exim with no privilege, delivering into `maildir`. @throws GateError `start_failed`. */
export async function startExim(
  context: GateContext,
  o: SmtpServerOptions & { program: Program; maildir: string; name?: string },
): Promise<SmtpServer> {
  const name = o.name ?? 'exim';
  const dir = join(context.dir, name);
  await makeOwned(context.account, dir);
  const env = { ...context.baseEnv, ...context.account.env, ...o.program.env };
  const config = join(dir, 'exim.conf');
  // Exim executes itself anew with a cleaned environment, so the path it knows itself by is a script.
  const self = await writeScript(dir, 'exim', execLine({ command: o.program.command, env, clean: true }));
  await writeScript(context.bin, 'sendmail', execLine({ command: self, args: ['-C', config], env: {} }));
  const server = new Exim(context, { name, dir, config, self, options: o });
  await onFreePort(o.port, (port) => server.listen(port));
  return server;
}

interface EximSetup {
  name: string;
  dir: string;
  config: string;
  self: string;
  options: SmtpServerOptions & { maildir: string };
}

class Exim implements SmtpServer {
  readonly kind = 'exim';
  readonly hostname: string = GATE_HOSTNAME;
  readonly spool: string;
  readonly #context: GateContext;
  readonly #setup: EximSetup;
  #daemon: Daemon | undefined;
  #port = 0;

  constructor(context: GateContext, setup: EximSetup) {
    this.#context = context;
    this.#setup = setup;
    this.spool = join(setup.dir, 'spool');
  }

  get port(): number {
    return this.#port;
  }

  async listen(port: number): Promise<SmtpServer | 'port taken'> {
    const { account, baseEnv, daemons, onEvent, dir, env, signal } = this.#context;
    const { name, config, self, options } = this.#setup;
    await writeOwned(account, config, eximConfig(this.#setup, { port, account, options }));
    const daemon = startDaemon({
      name,
      command: self,
      args: ['-bdf', '-q1m', '-C', config],
      env: baseEnv,
      cwd: dir,
      ...account.as,
      onLine: (line) => onEvent({ type: 'log', server: name, line }),
    });
    daemons.add(daemon);
    if (await waitForGreeting(port, { daemon, env, signal })) {
      this.#daemon = daemon;
      this.#port = port;
      onEvent({ type: 'listening', server: name, port });
      return this;
    }
    const how = await daemon.ended;
    daemons.delete(daemon);
    const log = `${daemon.log.tail()}\n${await this.log()}`;
    if (log.includes('Address already in use')) return 'port taken';
    throw new GateError('start_failed', `exim did not start (${how}): ${log.trim()}`);
  }

  async log(): Promise<string> {
    const read = (kind: string): Promise<string> =>
      readFile(join(this.#setup.dir, `${kind}log`), 'utf8').catch(() => '');
    return (await read('main')) + (await read('panic'));
  }

  async pids(): Promise<number[]> {
    const { pid } = this.#running();
    return [pid, ...(await descendants(pid)).map((process) => process.pid)];
  }

  async stop(): Promise<void> {
    const daemon = this.#running();
    const all = await this.pids();
    daemon.kill('SIGKILL');
    await daemon.ended;
    signalAll(all.slice(1), 'SIGKILL');
    this.#context.daemons.delete(daemon);
  }

  async start(): Promise<void> {
    if (this.#daemon?.running === true) throw new GateError('bad_option', 'exim is running already');
    await onFreePort(this.#port, (port) => this.listen(port));
  }

  #running(): Daemon {
    if (this.#daemon === undefined) throw new GateError('stopped', 'exim is not running');
    return this.#daemon;
  }
}

/** Main settings. `deliver_drop_privilege` also keeps Exim from complaining that `-C` took its privilege. */
function mainSettings(setup: EximSetup, o: { port: number; account: GateContext['account'] }): Record<string, string> {
  const { options } = setup;
  return {
    primary_hostname: GATE_HOSTNAME,
    qualify_domain: GATE_HOSTNAME,
    exim_path: setup.self,
    exim_user: String(o.account.uid),
    exim_group: String(o.account.gid),
    deliver_drop_privilege: 'true',
    never_users: '',
    trusted_users: String(o.account.uid),
    untrusted_set_sender: '*',
    spool_directory: join(setup.dir, 'spool'),
    log_file_path: join(setup.dir, '%slog'),
    pid_file_path: join(setup.dir, 'exim.pid'),
    local_interfaces: '127.0.0.1',
    daemon_smtp_ports: String(o.port),
    daemon_startup_retries: '0',
    tls_advertise_hosts: '',
    host_lookup: '',
    rfc1413_hosts: '',
    rfc1413_query_timeout: '0s',
    keep_environment: '',
    message_size_limit: String(options.sizeLimit ?? DEFAULT_SIZE_LIMIT),
    chunking_advertise_hosts: options.chunking === false ? '' : '*',
    pipelining_advertise_hosts: options.pipelining === false ? '' : '*',
    smtp_accept_max: '0',
    smtp_accept_queue_per_connection: '0',
    acl_smtp_rcpt: 'rcpt',
    acl_smtp_data: 'accept',
  };
}

function eximConfig(
  setup: EximSetup,
  o: { port: number; account: GateContext['account']; options: SmtpServerOptions & { maildir: string } },
): string {
  const settings = { ...mainSettings(setup, o), ...o.options.settings };
  const main = Object.entries(settings).flatMap(([name, value]) => (value === false ? [] : [`${name} = ${value}`]));
  return `${main.join('\n')}
domainlist local_domains = ${(o.options.domains ?? [GATE_HOSTNAME]).join(' : ')}

begin acl
rcpt:
${aclRules('deny', '550', o.options.refuse)}${aclRules('defer', '451', o.options.defer)}  accept domains = +local_domains
  deny message = 550 5.7.1 relay not permitted

begin routers
here:
  driver = accept
  domains = +local_domains
  transport = maildir

begin transports
maildir:
  driver = appendfile
  maildir_format
  directory = ${o.options.maildir}
  create_directory
  delivery_date_add
  envelope_to_add
  return_path_add

begin retry
* * F,1h,1m
`;
}

function aclRules(verb: 'deny' | 'defer', code: string, rules: Readonly<Record<string, string>> = {}): string {
  const rule = ([who, text]: [string, string]): string => {
    const [local = '', domain] = who.split('@');
    const lines = [`  ${verb} local_parts = ${local}`];
    if (domain !== undefined) lines.push(`       domains = ${domain}`);
    return `${lines.join('\n')}\n       message = ${code} ${text.replaceAll('$', '$$')}\n`;
  };
  return Object.entries(rules).map(rule).join('');
}
