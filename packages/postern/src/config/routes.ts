/** Configured routes as the relay takes them. */
import { type CompiledRoutes, compileRoutes, type Route } from '@postern/relay';
import type { RouteValues } from './schema.ts';

/** Configured routes as the relay takes them. */
export function toRoutes(values: readonly RouteValues[]): CompiledRoutes {
  const known = ['match', 'from', 'host', 'smarthost', 'dialogue', 'queue'] as const;
  return compileRoutes(
    values.map((value) => {
      const given = known.filter((key) => value[key] !== undefined).map((key) => [key, value[key]]);
      return Object.fromEntries(given) as Route;
    }),
  );
}
