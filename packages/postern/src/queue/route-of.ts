import { parseForwardPath, parseReversePath } from '@postern/core';
import { type CompiledRoutes, compileRoutes, type Route } from '@postern/relay';
import type { RouteValues } from '../config/schema.ts';
import type { RouteOf } from './row.ts';

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

/** Answers which route takes a recipient of the queue. */
export function routeFinder(routes: CompiledRoutes): RouteOf {
  return (from, to) => {
    const taken = routes.take(parseForwardPath(to), parseReversePath(from));
    if (taken === undefined) return undefined;
    return { route: taken.pattern, host: taken.route.host ?? taken.route.smarthost ?? '' };
  };
}
