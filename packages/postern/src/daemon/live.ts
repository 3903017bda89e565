import type { CompiledRoutes } from '@postern/relay';
import type { Config } from '../config/load.ts';
import type { Plan } from '../config/plan.ts';
import { toRoutes } from '../queue/route-of.ts';

/** What a reload changes while everything runs. */
export interface Live {
  config: Config;
  plan: Plan;
  /** Those of the plan, in the same order. */
  routes: CompiledRoutes;
}

/** The values of a configuration. */
export function liveOf(config: Config, plan: Plan): Live {
  return { config, plan, routes: toRoutes(plan.routes) };
}
