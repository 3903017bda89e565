import { printable, systemEnv } from '@postern/core';
import { planUp } from '../config/plan.ts';
import { LISTEN_ACCEPTED, type ListenAddress, parseListen } from '../config/units.ts';
import { startDaemon } from '../daemon/daemon.ts';
import { createLogger, type Logger } from '../daemon/log.ts';
import { notifyServiceManager } from '../daemon/notify.ts';
import { PosternError } from '../errors.ts';
import { type Context, configOf } from './context.ts';

/** `postern up [HOST…]`: serves until SIGTERM or SIGINT, then drains; a second signal hurries. */
export async function up(
  context: Context,
  o: { hosts: readonly string[]; imap?: string | undefined; smtp?: string | undefined },
): Promise<number> {
  const { surroundings, output, options } = context;
  const { env } = surroundings;
  const config = configOf(context);
  const flag = (name: string, text: string | undefined): ListenAddress | undefined => {
    if (text === undefined) return undefined;
    try {
      return parseListen(text, { runtimeDir: config.runtimeDir, home: surroundings.home });
    } catch (error) {
      throw new PosternError('usage', `--${name}: ${(error as Error).message}; accepted: ${LISTEN_ACCEPTED}`);
    }
  };
  const plan = planUp(config, { hosts: o.hosts, imap: flag('imap', o.imap), smtp: flag('smtp', o.smtp) });
  const log = createLogger({
    json: options.json,
    tty: output.errTty,
    debug: Boolean(env.POSTERN_DEBUG),
    write: output.err,
  });
  const signals = listenForSignals();
  surviveFaults(log);
  const daemon = await startDaemon({ config, plan, surroundings, env: systemEnv, log });
  const { imap, smtp } = daemon;
  output.out(options.json ? `${JSON.stringify({ event: 'ready', imap, smtp })}\n` : `${readyLine(imap, smtp)}\n`);
  await notifyServiceManager(env, ['READY=1', `STATUS=${readyLine(imap, smtp)}`]);
  const name = await signals.first;
  log.info(`${name}: draining`);
  void notifyServiceManager(env, ['STOPPING=1']);
  await daemon.drain({ hurry: signals.second });
  return 0;
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
function listenForSignals(): { first: Promise<string>; second: AbortSignal } {
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
