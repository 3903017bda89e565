import type { CompiledRoutes } from '@postern/relay';
import type { Config } from '../config/load.ts';
import type { Plan } from '../config/plan.ts';
import type { AllowRule, RouteValues } from '../config/schema.ts';
import { toRoutes } from '../queue/route-of.ts';

/** What a reload changes while everything runs. */
export interface Live {
  config: Config;
  plan: Plan;
  routes: CompiledRoutes;
  /** The same routes as configured, in the same order. */
  values: readonly RouteValues[];
  allow: readonly AllowRule[];
}

/** The values of a configuration. */
export function liveOf(config: Config, plan: Plan): Live {
  return { config, plan, routes: toRoutes(plan.routes), values: plan.routes, allow: config.allow };
}
