import { X509Certificate } from 'node:crypto';
import { readFileSync, realpathSync } from 'node:fs';
import { passwordFile } from '../access/password.ts';
import type { Config } from '../config/load.ts';
import { type Plan, planUp } from '../config/plan.ts';
import type { ListenerValues } from '../config/schema.ts';
import { type ListenAddress, parseListen } from '../config/units.ts';
import type { DaemonStatus } from '../daemon/control.ts';
import { PosternError } from '../errors.ts';
import type { Listener, SetupFacts } from '../setup/facts.ts';
import { formatSetup, RECIPES, setupFor } from '../setup/setup.ts';
import { askDaemon, type Context, columns, configOf, show } from './context.ts';

/** `postern setup [CLIENT] [HOST]`. */
export async function setup(
  context: Context,
  o: { client: string | undefined; host: string | undefined },
): Promise<void> {
  if (o.client === undefined) {
    const list = RECIPES.map(({ client, title, does }) => ({ client, title, does }));
    const rows = list.map(({ client, title, does }) => [client, title, does === 'both' ? 'reads and sends' : does]);
    show(context, list, () => ['postern setup CLIENT [HOST] prints the lines for one of', '', ...columns(rows)]);
    return;
  }
  const result = setupFor(o.client, await factsFor(context, o.host));
  if (result.type === 'unknown') {
    throw new PosternError('usage', `there are no lines for ${JSON.stringify(o.client)}`, {
      fix: 'postern setup   lists the clients there are',
    });
  }
  if (result.type === 'not-offered')
    throw new PosternError('config', `${o.client} needs what is not there: ${result.why}`);
  show(context, result.setup, () => formatSetup(result.setup));
}

async function factsFor(context: Context, host: string | undefined): Promise<SetupFacts> {
  const config = configOf(context);
  const plan = await asListening(planUp(config, { hosts: host === undefined ? [] : [host] }), context, config);
  const name = host ?? plan.hosts[0] ?? '';
  const endpoint =
    plan.imap.find((candidate) => candidate.host === name) ??
    plan.imap.find((candidate) => candidate.host === undefined);
  const values = config.imap.find((table) => table.host === endpoint?.host);
  const imap = listener(endpoint?.listen, values);
  const smtp = listener(plan.smtp?.listen, config.smtp);
  const socket = plan.smtp?.listen.find((address) => address.type === 'unix');
  return {
    host: name,
    ...(imap === undefined ? {} : { imap }),
    ...(smtp === undefined ? {} : { smtp }),
    ...(socket?.type === 'unix' ? { smtpSocket: socket.path } : {}),
    login: endpoint?.host === undefined ? name : 'postern',
    password: config.allow.some((rule) => rule.type === 'same-user' || rule.type === 'anyone') ? 'any' : 'local',
    passwordFile: passwordFile(config.stateDir),
    command: ownCommand(context, config),
  };
}

/** The plan with the addresses a running daemon really has: another port was chosen for 0, or on its command line. */
async function asListening(plan: Plan, context: Context, config: Config): Promise<Plan> {
  const status = (await askDaemon(config, 'status').catch(() => undefined)) as DaemonStatus | undefined;
  if (status === undefined) return plan;
  const read = (addresses: readonly string[]): ListenAddress[] =>
    addresses.map((text) => parseListen(text, { runtimeDir: config.runtimeDir, home: context.surroundings.home }));
  const imap = read(status.imap.listen);
  const smtp = read(status.smtp.listen);
  const planned = plan.imap.reduce((count, { listen }) => count + listen.length, 0);
  const { smtp: relay } = plan;
  return {
    ...plan,
    imap:
      planned === imap.length
        ? plan.imap.map((it) => ({ ...it, listen: imap.splice(0, it.listen.length) }))
        : plan.imap,
    ...(relay === undefined
      ? {}
      : { smtp: { ...relay, listen: relay.listen.length === smtp.length ? smtp : relay.listen } }),
  };
}

function listener(
  listen: Plan['imap'][number]['listen'] | undefined,
  values: ListenerValues | undefined,
): Listener | undefined {
  const tcp = listen?.find((address) => address.type === 'tcp');
  if (tcp?.type !== 'tcp') return undefined;
  const certificate = values?.tls_certificate;
  const fingerprint = certificate === undefined ? undefined : fingerprintOf(certificate);
  return {
    host: tcp.host,
    port: tcp.port,
    tls: values?.tls ?? 'off',
    ...(certificate === undefined ? {} : { certificate }),
    ...(fingerprint === undefined ? {} : { fingerprint }),
  };
}

function fingerprintOf(file: string): string | undefined {
  try {
    return new X509Certificate(readFileSync(file)).fingerprint256;
  } catch {
    return undefined;
  }
}

/** The command as installed, or as run from its sources. */
function ownCommand(context: Context, config: Config): string[] {
  const script = realpathSync(process.argv[1] ?? '');
  const base =
    script.endsWith('.js') && process.execArgv.length === 0
      ? [script]
      : [process.execPath, ...process.execArgv, script];
  const named = context.options.config !== undefined || context.surroundings.env.POSTERN_CONFIG;
  return named && config.file !== undefined ? [...base, '--config', config.file] : base;
}
