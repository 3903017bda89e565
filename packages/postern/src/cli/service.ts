/** `postern service`. */
import { realpathSync } from 'node:fs';
import { join } from 'node:path';
import { PosternError } from '../base/errors.ts';
import type { Surroundings } from '../base/paths.ts';
import type { Config } from '../config/load.ts';
import { planUp } from '../config/plan.ts';
import { installService, removeService, type ServicePlace } from '../service/install.ts';
import { launchdAgent, type ServiceFacts, type ServiceFile, systemdUnits } from '../service/unit.ts';
import { type Context, configOf, show } from './context.ts';

/** Environment that decides where Postern and ssh look, handed on to the service as it is now. */
const HANDED_ON = ['XDG_CONFIG_HOME', 'XDG_STATE_HOME', 'SSH_AUTH_SOCK'];

/** `postern service [print|install|remove] [HOST…]`. */
export async function service(context: Context, o: { action: string; hosts: readonly string[] }): Promise<void> {
  if (!['print', 'install', 'remove'].includes(o.action)) {
    throw new PosternError('usage', `${JSON.stringify(o.action)} is no action`, {
      fix: 'postern service print|install|remove [HOST…]',
    });
  }
  const place = placeOf(context.surroundings);
  if (o.action === 'remove') {
    const report = await removeService(place);
    show(context, { done: report }, () => report);
    return;
  }
  const files = await filesFor(context, o.hosts, place);
  if (o.action === 'install') {
    const report = [...(await installService(files, place)), ...advice(place)];
    show(context, { done: report }, () => report);
    return;
  }
  const named = files.map(({ name, text }) => ({ path: join(place.directory, name), text }));
  show(context, named, () => named.flatMap(({ path, text }) => [`# ${path}`, text]));
}

function placeOf(s: Surroundings): ServicePlace {
  if (process.platform === 'darwin') {
    return {
      directory: join(s.home, 'Library', 'LaunchAgents'),
      manager: { type: 'launchd', program: 'launchctl', uid: s.uid },
    };
  }
  const directory = join(s.env.XDG_CONFIG_HOME || join(s.home, '.config'), 'systemd', 'user');
  return { directory, manager: { type: 'systemd', program: 'systemctl' } };
}

async function filesFor(context: Context, hosts: readonly string[], place: ServicePlace): Promise<ServiceFile[]> {
  const config = await configOf(context);
  const plan = planUp(config, { hosts });
  const facts: ServiceFacts = {
    command: ownCommand(),
    ...(namedConfig(context, config) === undefined ? {} : { config: namedConfig(context, config) as string }),
    hosts,
    imap: plan.imap.map(({ listen }) => listen),
    smtp: plan.smtp?.listen ?? [],
    environment: handedOn(context.surroundings),
  };
  if (place.manager.type === 'systemd') return systemdUnits(facts);
  return [launchdAgent(facts, { logFile: join(context.surroundings.home, 'Library', 'Logs', 'postern.log') })];
}

/** The file, unless it is the one that is found without being named. */
function namedConfig(context: Context, config: Config): string | undefined {
  return context.options.config === undefined && !context.surroundings.env.POSTERN_CONFIG ? undefined : config.file;
}

/** How this very process was started: the interpreter, its options, the script. */
function ownCommand(): string[] {
  return [process.execPath, ...process.execArgv, realpathSync(process.argv[1] ?? '')];
}

function handedOn(s: Surroundings): Record<string, string> {
  return Object.fromEntries(HANDED_ON.flatMap((name) => (s.env[name] ? [[name, s.env[name]]] : [])));
}

function advice(place: ServicePlace): string[] {
  if (place.manager.type !== 'systemd') return [];
  return ['to have it run without a login: loginctl enable-linger', 'its log: journalctl --user -u postern'];
}
