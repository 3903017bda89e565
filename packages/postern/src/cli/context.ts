/** What every subcommand is given, and how it prints. */
import { printableJson } from '@postern/core';
import { PosternError } from '../base/errors.ts';
import type { Surroundings } from '../base/paths.ts';
import type { Config } from '../config/load.ts';
import { findControlSocket } from '../config/locate.ts';
import type { Plan } from '../config/plan.ts';
import { callControl } from '../control/client.ts';
import type { DaemonStatus } from '../control/status.ts';

/** Where output goes. */
export interface Output {
  /** Writes to stdout as is. */
  out(text: string): void;
  /** Writes to stderr as is. */
  err(text: string): void;
  /** stdout is a terminal. */
  readonly outTty: boolean;
  /** stderr is a terminal. */
  readonly errTty: boolean;
}

/** The options every command takes, before or after its name. */
export interface GlobalOptions {
  readonly config?: string;
  readonly json: boolean;
}

/** What a command gets. */
export interface Context {
  readonly surroundings: Surroundings;
  readonly output: Output;
  readonly options: GlobalOptions;
}

/** By the options that name them: what a command asks for twice is read once. */
const read = new WeakMap<GlobalOptions, Promise<Config>>();

/** The configuration that the options name, read once for each command; its schema is loaded by what needs it. */
export function configOf({ surroundings, options }: Pick<Context, 'surroundings' | 'options'>): Promise<Config> {
  const config = read.get(options) ?? readConfig(surroundings, options);
  read.set(options, config);
  return config;
}

async function readConfig(surroundings: Surroundings, options: GlobalOptions): Promise<Config> {
  const { loadConfig } = await import('../config/load.ts');
  return loadConfig(surroundings, { file: options.config });
}

/** Asks the daemon that owns the configured state directory. Throws as `callControl`. */
export async function askDaemon(
  { surroundings, options }: Pick<Context, 'surroundings' | 'options'>,
  method: string,
  params: Record<string, unknown> = {},
): Promise<unknown> {
  try {
    return await callControl(
      await findControlSocket(surroundings, options.config, () => configOf({ surroundings, options })),
      method,
      params,
    );
  } catch (error) {
    // Nobody is there: then a configuration that cannot be used is the first thing to say.
    if (error instanceof PosternError && error.code === 'unavailable') await configOf({ surroundings, options });
    throw error;
  }
}

/**
 * What `up` does with this configuration; where that names no host, with those the running daemon was started with. Throws as
 * {@link planUp}.
 */
export async function planAsRunning(context: Context, config: Config, hosts: readonly string[]): Promise<Plan> {
  const { planUp } = await import('../config/plan.ts');
  if (hosts.length > 0) return planUp(config, { hosts });
  try {
    return planUp(config, { hosts });
  } catch (error) {
    if (!(error instanceof PosternError) || error.code !== 'usage') throw error;
    const status = (await askDaemon(context, 'status').catch(() => undefined)) as DaemonStatus | undefined;
    if (status === undefined) throw error;
    return planUp(config, { hosts: status.hosts.map(({ host }) => host) });
  }
}

/** Writes a result: one JSON value on a line with `--json`, else the lines of `human`. */
export function show(context: Context, value: unknown, human: () => readonly string[]): void {
  const lines = context.options.json ? [printableJson(value)] : human();
  if (lines.length > 0) context.output.out(`${lines.join('\n')}\n`);
}
