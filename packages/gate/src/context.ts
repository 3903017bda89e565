/** What every part of a gate is started with: its directory, its account, its programs and its signal. */
import type { Env } from '@postern/core';
import type { Account } from './account.ts';
import type { OnGateEvent } from './event.ts';
import type { Daemon } from './run.ts';

/** What every server of one gate shares. */
export interface GateContext {
  /** The gate's directory, mode 0700, owned by the account. */
  dir: string;
  /** Directory of the far commands, first in the account's PATH. */
  bin: string;
  account: Account;
  env: Env;
  signal: AbortSignal;
  onEvent: OnGateEvent;
  /** Environment of every server: PATH, the mark, the account. */
  baseEnv: Record<string, string>;
  /** Servers started so far, for the teardown. */
  daemons: Set<Daemon>;
}
