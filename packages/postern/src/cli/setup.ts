/** `postern setup`: facts of this machine put into a client's lines. */
import { realpathSync } from 'node:fs';
import { systemEnv } from '@postern/core';
import { passwordFile } from '../access/password.ts';
import { PosternError } from '../base/errors.ts';
import { localHostname } from '../base/machine.ts';
import { columns } from '../base/text.ts';
import type { Config } from '../config/load.ts';
import type { Plan, TlsPlan } from '../config/plan.ts';
import { type ListenAddress, parseListen } from '../config/units.ts';
import type { DaemonStatus } from '../control/status.ts';
import type { Listener, SetupFacts } from '../setup/facts.ts';
import { installedIsync } from '../setup/isync.ts';
import { formatSetup, RECIPES, setupFor } from '../setup/setup.ts';
import { fingerprintOf } from '../tls/files.ts';
import { ensureOwnCertificate } from '../tls/identity.ts';
import { askDaemon, type Context, configOf, planAsRunning, show } from './context.ts';

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
  const config = await configOf(context);
  const plan = await asListening(
    await planAsRunning(context, config, host === undefined ? [] : [host]),
    context,
    config,
  );
  const name = host ?? plan.hosts[0] ?? '';
  const endpoint =
    plan.imap.find((candidate) => candidate.host === name) ??
    plan.imap.find((candidate) => candidate.host === undefined);
  const imap = await listener(endpoint);
  const smtp = await listener(plan.smtp);
  const socket = plan.smtp?.listen.find((address) => address.type === 'unix');
  const isync = installedIsync(context.surroundings.env);
  return {
    host: name,
    ...(imap === undefined ? {} : { imap }),
    ...(smtp === undefined ? {} : { smtp }),
    ...(socket?.type === 'unix' ? { smtpSocket: socket.path } : {}),
    login: endpoint?.host === undefined ? name : 'postern',
    password: config.allow.some((rule) => rule.type === 'same-user' || rule.type === 'anyone') ? 'any' : 'local',
    passwordFile: passwordFile(config.stateDir),
    command: ownCommand(context, config),
    ...(isync === undefined ? {} : { isync }),
  };
}

/** The plan with the addresses a running daemon really has: another port was chosen for 0, or on its command line. */
async function asListening(plan: Plan, context: Context, config: Config): Promise<Plan> {
  const status = (await askDaemon(context, 'status').catch(() => undefined)) as DaemonStatus | undefined;
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

async function listener(
  plan: { listen: readonly ListenAddress[]; tls?: TlsPlan } | undefined,
): Promise<Listener | undefined> {
  const tcp = plan?.listen.find((address) => address.type === 'tcp');
  if (tcp?.type !== 'tcp') return undefined;
  const { host, port } = tcp;
  if (plan?.tls === undefined) return { host, port, tls: 'off' };
  const { mode, files } = plan.tls;
  await ensureOwnCertificate(files, { hostname: localHostname(), now: systemEnv.wallNow() });
  const fingerprint = fingerprintOf(files.certificate);
  return {
    ...{ host, port, tls: mode, certificate: files.certificate },
    ...(fingerprint === undefined ? {} : { fingerprint }),
  };
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
