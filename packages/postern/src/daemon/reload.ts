import { isDeepStrictEqual } from 'node:util';
import type { CompiledRoutes } from '@postern/relay';
import { ensurePassword } from '../access/password.ts';
import type { Config } from '../config/load.ts';
import type { Plan } from '../config/plan.ts';
import type { AllowRule, RouteValues } from '../config/schema.ts';
import { toRoutes } from '../queue/route-of.ts';
import type { DaemonParts } from './daemon.ts';

/** What a reload changes while everything runs. */
export interface Live {
  routes: CompiledRoutes;
  /** The same routes as configured, in the same order. */
  values: readonly RouteValues[];
  allow: readonly AllowRule[];
}

/** The values a reload starts from. */
export function liveOf(config: Config, plan: Plan): Live {
  return { routes: toRoutes(plan.routes), values: plan.routes, allow: config.allow };
}

/**
 * Takes over routes and access rules at once, lets the queue ask the routes again, and redials what is down. No session is dropped. Returns the
 * tables that have changed but count only after a restart.
 */
export function reload(parts: DaemonParts, next: { config: Config; plan: Plan }): string[] {
  const live = liveOf(next.config, next.plan);
  if (live.allow.some((rule) => rule.type === 'password')) ensurePassword(parts.config.stateDir);
  Object.assign(parts.live, live);
  parts.runner.reload();
  for (const { link } of parts.hosts.values()) if (link.state.type !== 'up') link.wake('reload');
  const { config, plan } = parts;
  const pairs: readonly [table: string, before: unknown, after: unknown][] = [
    ['state_dir', config.stateDir, next.config.stateDir],
    ['ssh_config', config.sshConfig, next.config.sshConfig],
    ['[host]', [...config.hosts], [...next.config.hosts]],
    ['[[imap]]', plan.imap, next.plan.imap],
    ['[smtp]', plan.smtp, next.plan.smtp],
    ['[[forward]]', config.forwards, next.config.forwards],
    ['[[reverse]]', config.reverses, next.config.reverses],
    ['the hosts of [[route]]', plan.hosts, next.plan.hosts],
  ];
  return pairs.filter(([, before, after]) => !isDeepStrictEqual(before, after)).map(([table]) => table);
}
