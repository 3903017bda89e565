/** Exim with a configuration of its own, on loopback, delivering into the gate's Maildir. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { GateContext } from './context.ts';
import { makeOwned, writeOwned } from './files.ts';
import type { Program } from './programs.ts';
import { execLine, writeScript } from './script.ts';
import { startServer } from './server.ts';
import { DEFAULT_SIZE_LIMIT, GATE_HOSTNAME, type SmtpServer, type SmtpServerOptions } from './smtp-server.ts';

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
  const setup: EximSetup = { dir, self, options: o };
  const log = async (): Promise<string> => {
    const read = (kind: string): Promise<string> => readFile(join(dir, `${kind}log`), 'utf8').catch(() => '');
    return (await read('main')) + (await read('panic'));
  };
  const server = await startServer(context, {
    name,
    port: o.port,
    log,
    async prepare(port) {
      await writeOwned(context.account, config, eximConfig(setup, { port, account: context.account }));
      return {
        command: self,
        args: ['-bdf', '-q1m', '-C', config],
        env: context.baseEnv,
        cwd: context.dir,
        ...context.account.as,
      };
    },
  });
  return { kind: 'exim', hostname: GATE_HOSTNAME, spool: join(dir, 'spool'), log, ...server };
}

interface EximSetup {
  dir: string;
  self: string;
  options: SmtpServerOptions & { maildir: string };
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

function eximConfig(setup: EximSetup, o: { port: number; account: GateContext['account'] }): string {
  const { options } = setup;
  const settings = { ...mainSettings(setup, o), ...options.settings };
  const main = Object.entries(settings).flatMap(([name, value]) => (value === false ? [] : [`${name} = ${value}`]));
  return `${main.join('\n')}
domainlist local_domains = ${(options.domains ?? [GATE_HOSTNAME]).join(' : ')}

begin acl
rcpt:
${aclRules('deny', '550', options.refuse)}${aclRules('defer', '451', options.defer)}  accept domains = +local_domains
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
  directory = ${options.maildir}
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
