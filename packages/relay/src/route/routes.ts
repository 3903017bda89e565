/** The first route that matches takes a recipient; the same table and the same addresses always give the same route. */
import type { ForwardPath, ReversePath } from '@postern/core';
import { RelayError } from '../errors.ts';
import { compilePattern, type Matcher, subjectOf } from './pattern.ts';

/** Which mail goes where. See {@link compilePattern} for the patterns. */
export interface Route {
  /** Forward-path patterns: one must match. */
  readonly match: readonly string[];
  /** Reverse-path patterns: when given, one must match too. */
  readonly from?: readonly string[];
  /** An SSH destination. Exactly one of `host` and `smarthost` is given. */
  readonly host?: string;
  /** A plain smarthost, `smtps://…` or `smtp://…`. */
  readonly smarthost?: string;
  /** How SMTP is spoken; `auto` when absent. */
  readonly dialogue?: 'auto' | 'stream' | 'pipelined' | 'lockstep' | 'bsmtp';
  /** False: the client gets the far side's own reply. True when absent. */
  readonly queue?: boolean;
}

/** The route a recipient takes. */
export interface TakenRoute {
  readonly route: Route;
  /** Place of the route, from 0. */
  readonly index: number;
  /** The pattern of `match` that fits. */
  readonly pattern: string;
  /** The pattern of `from` that fits, where there are any. */
  readonly from?: string;
}

/** Why one route takes a recipient, or not. */
export interface RouteVerdict {
  readonly index: number;
  readonly route: Route;
  readonly verdict: 'recipient does not match' | 'sender does not match' | 'taken';
  readonly pattern?: string;
  readonly from?: string;
}

/** Routes ready for use. Pure: the same question has the same answer. */
export interface CompiledRoutes {
  readonly routes: readonly Route[];
  /** The first route that matches; undefined when none does. */
  take(to: ForwardPath, from: ReversePath): TakenRoute | undefined;
  /** Each route up to the one that is taken, and why. */
  explain(to: ForwardPath, from: ReversePath): readonly RouteVerdict[];
}

/**
 * Compiles routes in their order: the first match wins. Throws `RelayError` (`pattern`, `route`) that names the route's
 * place, from 1.
 */
export function compileRoutes(routes: readonly Route[]): CompiledRoutes {
  const compiled = routes.map((route, index) => {
    if ((route.host === undefined) === (route.smarthost === undefined)) {
      throw new RelayError(`route ${index + 1} needs either host or smarthost`, { code: 'route' });
    }
    return { route, match: compileList(route.match), from: route.from && compileList(route.from) };
  });
  const explain = (to: ForwardPath, from: ReversePath): RouteVerdict[] => {
    const recipient = subjectOf(to);
    const sender = subjectOf(from);
    const verdicts: RouteVerdict[] = [];
    for (const [index, { route, match, from: fromList }] of compiled.entries()) {
      const pattern = match.find(([, matches]) => matches(recipient))?.[0];
      const fromPattern = fromList?.find(([, matches]) => matches(sender))?.[0];
      const base = { index, route, ...(pattern === undefined ? {} : { pattern }) };
      if (pattern === undefined) verdicts.push({ ...base, verdict: 'recipient does not match' });
      else if (fromList !== undefined && fromPattern === undefined)
        verdicts.push({ ...base, verdict: 'sender does not match' });
      else {
        verdicts.push({ ...base, verdict: 'taken', ...(fromPattern === undefined ? {} : { from: fromPattern }) });
        break;
      }
    }
    return verdicts;
  };
  return {
    routes,
    explain,
    take(to, from) {
      const recipient = subjectOf(to);
      const sender = subjectOf(from);
      for (const [index, { route, match, from: fromList }] of compiled.entries()) {
        const pattern = match.find(([, matches]) => matches(recipient))?.[0];
        if (pattern === undefined) continue;
        if (fromList === undefined) return { route, index, pattern };
        const fromPattern = fromList.find(([, matches]) => matches(sender))?.[0];
        if (fromPattern !== undefined) return { route, index, pattern, from: fromPattern };
      }
      return undefined;
    },
  };
}

function compileList(patterns: readonly string[]): [string, Matcher][] {
  return patterns.map((pattern) => [pattern, compilePattern(pattern)]);
}

/** Where a route leads, as one string: equal for routes that share a courier. */
export function routeKey(route: Route): string {
  return `${route.host ?? route.smarthost ?? ''} ${route.dialogue ?? 'auto'}`;
}
