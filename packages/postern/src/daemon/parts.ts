/** The parts of a running daemon, as those see them who ask. */
import type { Env, Spool } from '@postern/core';
import type { Runner } from '@postern/relay';
import type { TlsIdentities } from '../tls/identity.ts';
import type { ActiveConfig } from './active-config.ts';
import type { Reverses } from './forwards.ts';
import type { Hosts } from './hosts.ts';
import type { Tables } from './services.ts';
import type { Smarthosts } from './smarthosts.ts';

/** The parts, as the control socket sees them. */
export interface DaemonParts extends Tables {
  readonly active: ActiveConfig;
  readonly hosts: Hosts;
  readonly spool: Spool;
  readonly runner: Runner;
  readonly reverses: Reverses;
  readonly tls: TlsIdentities;
  readonly smarthosts: Smarthosts;
  readonly env: Env;
  /** Wall clock, ms. */
  readonly startedAt: number;
}
