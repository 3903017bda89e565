/** Exim and Postfix as the sending side, whose smarthost is a local port. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import {
  execLine,
  findProgram,
  type Gate,
  makeOwned,
  PROGRAMS,
  reachableProgram,
  writeOwned,
  writeScript,
} from '@postern/gate';
import { fetchTool, rigPrograms, startPostfix, startRig } from '@postern/testkit/rig';
import { RECIPIENT } from './far-mail.ts';
import { batchOf, type Load } from './mail.ts';

/** An MTA that sends loads to the port it was made for. */
export interface MtaClient extends AsyncDisposable {
  /** Puts a load into its queue; what `deliver` then begins. Neither waits for arrivals. */
  queue(load: Load): Promise<void>;
  deliver(load: Load): Promise<void>;
}

/** Exim with one queue runner: routes everything first, then sends it down one connection (`-qq`). */
export async function eximClient(gate: Gate, port: number): Promise<MtaClient> {
  const { account, baseEnv } = gate.context;
  const program = await reachableProgram(await findProgram(PROGRAMS.exim, rigPrograms()), gate.dir);
  const dir = join(gate.dir, `exim-client-${port}`);
  await makeOwned(account, dir);
  const env = { ...baseEnv, ...account.env, ...program.env };
  const self = await writeScript(dir, 'exim', execLine({ command: program.command, env, clean: true }));
  const config = join(dir, 'exim.conf');
  await writeOwned(account, config, eximConfig({ dir, self, port, ...account }));
  const exim = async (args: readonly string[], input: Buffer): Promise<void> => {
    const child = spawn(self, ['-C', config, ...args], {
      ...account.as,
      cwd: dir,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    await once(child, 'close');
  };
  return {
    queue: (load) => exim(['-odq', '-bS'], batchOf(load, { hello: false })),
    deliver: () => exim(['-qq'], Buffer.alloc(0)),
    async [Symbol.asyncDispose]() {},
  };
}

function eximConfig(o: { dir: string; self: string; port: number; uid: number; gid: number }): string {
  return `primary_hostname = client.test
exim_path = ${o.self}
exim_user = ${o.uid}
exim_group = ${o.gid}
trusted_users = ${o.uid}
never_users =
deliver_drop_privilege = true
spool_directory = ${o.dir}/spool
log_file_path = ${o.dir}/%slog
keep_environment =
tls_advertise_hosts =
queue_only = true
smtp_receive_timeout = 1m

begin routers
far:
  driver = manualroute
  route_list = * 127.0.0.1 byname
  self = send
  transport = far

begin transports
far:
  driver = smtp
  port = ${o.port}
  allow_localhost
  hosts_avoid_tls = *
  connection_max_messages = 1000

begin retry
* * F,1h,1m
`;
}

/** Postfix as it comes, up to 20 connections; it delivers as soon as it has something, so `queue` has nothing to do. */
export async function postfixClient(port: number): Promise<MtaClient> {
  const gate = await startRig({ imapd: false, smtp: false });
  const server = await startPostfix(gate, {
    domains: ['nowhere.test'],
    settings: {
      myhostname: 'client.test',
      default_transport: 'smtp',
      relay_transport: 'smtp',
      relayhost: `[127.0.0.1]:${port}`,
      smtp_host_lookup: 'native',
      smtpd_relay_restrictions: 'permit_mynetworks, reject',
      smtpd_recipient_restrictions: 'permit_mynetworks, reject',
    },
  });
  return {
    async queue() {},
    deliver: (load) => smtpSource(server.port, load, { sessions: 20, keepOpen: true }),
    [Symbol.asyncDispose]: () => gate.stop(),
  };
}

/** Postfix's load generator, until every message is taken. Rejects when one is refused. */
export async function smtpSource(port: number, load: Load, o: { sessions: number; keepOpen: boolean }): Promise<void> {
  const tool = await fetchTool('smtp-source');
  const args = [...(o.keepOpen ? ['-d'] : []), '-s', String(o.sessions), '-m', String(load.count)];
  const to = ['-l', String(load.octets), '-f', load.sender, '-t', RECIPIENT, `127.0.0.1:${port}`];
  const child = spawn(tool.command, [...tool.args, ...args, ...to], {
    env: { ...process.env, ...tool.env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString();
  });
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`smtp-source ended with ${code}: ${errors.slice(0, 500)}`);
}
