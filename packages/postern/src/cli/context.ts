/** What every subcommand is given, and how it prints. */
import { printableJson } from '@postern/core';
import { PosternError } from '../base/errors.ts';
import { locateControlSocket, type Surroundings } from '../base/paths.ts';
import { type Config, loadConfig } from '../config/load.ts';
import { type Plan, planUp } from '../config/plan.ts';
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

/** Reads the configuration that the options name. */
export function configOf(context: Context): Config {
  return loadConfig(context.surroundings, { file: context.options.config });
}

/** Asks the daemon that owns the configured state directory. Throws as `callControl`. */
export function askDaemon(config: Config, method: string, params: Record<string, unknown> = {}): Promise<unknown> {
  return callControl(locateControlSocket(config.runtimeDir, config.stateDir), method, params);
}

/**
 * What `up` does with this configuration; where that names no host, with those the running daemon was started with. Throws as
 * {@link planUp}.
 */
export async function planAsRunning(config: Config, hosts: readonly string[]): Promise<Plan> {
  if (hosts.length > 0) return planUp(config, { hosts });
  try {
    return planUp(config, { hosts });
  } catch (error) {
    if (!(error instanceof PosternError) || error.code !== 'usage') throw error;
    const status = (await askDaemon(config, 'status').catch(() => undefined)) as DaemonStatus | undefined;
    if (status === undefined) throw error;
    return planUp(config, { hosts: status.hosts.map(({ host }) => host) });
  }
}

/** Writes a result: one JSON value on a line with `--json`, else the lines of `human`. */
export function show(context: Context, value: unknown, human: () => readonly string[]): void {
  const lines = context.options.json ? [printableJson(value)] : human();
  if (lines.length > 0) context.output.out(`${lines.join('\n')}\n`);
}
