/** `postern up`: runs the daemon until a signal, and says how it went. */
import { printable, sleep, systemEnv } from '@postern/core';
import { PosternError } from '../base/errors.ts';
import { type Config, loadConfig } from '../config/load.ts';
import { type Plan, planUp } from '../config/plan.ts';
import { LISTEN_ACCEPTED, type ListenAddress, parseListen } from '../config/units.ts';
import { type Daemon, DRAIN_MS, startDaemon } from '../daemon/daemon.ts';
import { createLogger, type LogFormat, type Logger, leadsToJournal } from '../daemon/log.ts';
import { notifyServiceManager } from '../daemon/notify.ts';
import type { Context } from './context.ts';

/** `postern up [HOST…]`: serves until SIGTERM or SIGINT, then drains; a second signal hurries. */
export async function up(
  context: Context,
  o: {
    hosts: readonly string[];
    imap?: string | undefined;
    smtp?: string | undefined;
    logFormat?: LogFormat | undefined;
  },
): Promise<number> {
  const { surroundings, output, options } = context;
  const { env } = surroundings;
  const read = (): { config: Config; plan: Plan } => {
    const config = loadConfig(surroundings, { file: options.config });
    const imap = readAddress('--imap', o.imap, context, config);
    const smtp = readAddress('--smtp', o.smtp, context, config);
    return { config, plan: planUp(config, { hosts: o.hosts, imap, smtp }) };
  };
  const { config, plan } = read();
  const log = await createLogger({
    format: o.logFormat ?? (options.json ? 'json' : leadsToJournal(env.JOURNAL_STREAM, 2) ? 'journal' : 'text'),
    tty: output.errTty,
    debug: Boolean(env.POSTERN_DEBUG),
    write: output.err,
  });
  const signals = listenForSignals();
  surviveFaults(log);
  const daemon = await started(startDaemon({ config, plan, surroundings, env: systemEnv, log }), signals);
  if (daemon === undefined) return 0;
  const { imap, smtp } = daemon;
  output.out(options.json ? `${JSON.stringify({ event: 'ready', imap, smtp })}\n` : `${readyLine(imap, smtp)}\n`);
  await notifyServiceManager(env, ['READY=1', `STATUS=${readyLine(imap, smtp)}`]);
  process.on('SIGHUP', () => void reload(daemon, read, log));
  const name = await signals.first;
  log.info(`${name}: draining`);
  void notifyServiceManager(env, ['STOPPING=1']);
  await daemon.drain({ hurry: signals.second });
  return 0;
}

/** A signal during a start does not wait for it longer than a drain may take: nothing has been taken yet that could be lost. */
function started(starting: Promise<Daemon>, signals: Signals): Promise<Daemon | undefined> {
  const tooLate = signals.first.then(() => sleep(systemEnv, DRAIN_MS, signals.second).catch(() => {}));
  return Promise.race([starting, tooLate.then(() => undefined)]);
}

function readAddress(
  flag: string,
  text: string | undefined,
  { surroundings }: Context,
  config: Config,
): ListenAddress | undefined {
  if (text === undefined) return undefined;
  try {
    return parseListen(text, { runtimeDir: config.runtimeDir, home: surroundings.home });
  } catch (error) {
    throw new PosternError('usage', `${flag}: ${(error as Error).message}; accepted: ${LISTEN_ACCEPTED}`);
  }
}

/** SIGHUP: a configuration that cannot be used changes nothing. */
async function reload(daemon: Daemon, read: () => { config: Config; plan: Plan }, log: Logger): Promise<void> {
  try {
    const late = await daemon.reload(read());
    const rest = late.length === 0 ? '' : `; a restart is needed for ${late.join(', ')}`;
    log[late.length === 0 ? 'info' : 'warn'](`SIGHUP: reloaded${rest}`);
  } catch (error) {
    log.error(`SIGHUP: nothing reloaded: ${(error as Error).message}`);
  }
}

function readyLine(imap: readonly string[], smtp: readonly string[]): string {
  const parts = [...imap.map((address) => `imap=${address}`), ...smtp.map((address) => `smtp=${address}`)];
  return ['ready', ...parts].join(' ');
}

/** A fault nobody foresaw ends what it hit, not the mail of everyone: it is told, with its stack, and Postern goes on. */
function surviveFaults(log: Logger): void {
  const tell = (error: unknown): void => {
    const stack = error instanceof Error ? error.stack : undefined;
    log.error(
      { stack },
      `a fault of Postern itself: ${printable(error instanceof Error ? error.message : String(error))}`,
    );
  };
  process.on('uncaughtException', tell).on('unhandledRejection', tell);
  // Whoever closed our stderr does without a log.
  process.stderr.on('error', () => {});
}

/** SIGTERM and SIGINT: the first resolves, the second aborts. */
interface Signals {
  readonly first: Promise<string>;
  readonly second: AbortSignal;
}

function listenForSignals(): Signals {
  const second = new AbortController();
  const first = new Promise<string>((resolve) => {
    let count = 0;
    const onSignal = (name: string): void => {
      count += 1;
      if (count === 1) resolve(name);
      else second.abort();
    };
    process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
  });
  return { first, second: second.signal };
}
