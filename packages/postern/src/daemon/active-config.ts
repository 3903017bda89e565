/** The configuration in force; a reload puts another in its place. */
import type { CompiledRoutes } from '@postern/relay';
import { heloName } from '../base/machine.ts';
import type { Config } from '../config/load.ts';
import type { Plan } from '../config/plan.ts';
import { toRoutes } from '../config/routes.ts';

/** What a reload changes while everything runs. */
export interface ActiveConfig {
  config: Config;
  plan: Plan;
  /** Those of the plan, in the same order. */
  routes: CompiledRoutes;
}

/** The name couriers greet with. */
export function heloOf({ config }: ActiveConfig): string {
  return config.smtp?.helo ?? heloName();
}

/** The values of a configuration. */
export function activeConfigOf(config: Config, plan: Plan): ActiveConfig {
  return { config, plan, routes: toRoutes(plan.routes) };
}
