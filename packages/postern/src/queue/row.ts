/** Entries as rows of `postern queue`. */
import {
  type EntryState,
  type Outcome,
  parseForwardPath,
  parseReversePath,
  replyText,
  type Wait,
  type WaitingFor,
} from '@postern/core';
import type { CompiledRoutes } from '@postern/relay';

/** One entry as `postern queue list --json` gives it. */
export interface QueueRow {
  readonly id: string;
  /** Reverse-path; empty for the null one. */
  readonly from: string;
  /** Octets. */
  readonly size: number;
  /** `active`: a courier has it. `queued`: not tried yet. `deferred`: was tried, and waits. */
  readonly state: 'active' | 'queued' | 'deferred' | 'held';
  /** ISO 8601, UTC. */
  readonly arrived: string;
  /** ISO 8601, UTC; null while that depends on a link, a route or a person. */
  readonly next: string | null;
  readonly attempts: number;
  readonly reason: string;
  /** What the attempt that runs waits for, and since when no octet has moved, ISO 8601, UTC; absent while none does. */
  readonly waits?: { readonly for: WaitingFor; readonly since: string };
  readonly recipients: readonly QueueRecipient[];
}

/** One forward-path of an entry. */
export interface QueueRecipient {
  readonly address: string;
  /** The pattern that takes it now; null when no route does. */
  readonly route: string | null;
  readonly host: string | null;
  readonly outcome: Outcome['type'] | null;
  /** The far side's last reply on one line. */
  readonly reply: string | null;
}

/** Which route takes a recipient, for the queue's display. */
export type RouteOf = (from: string, to: string) => { readonly route: string; readonly host: string } | undefined;

/** What the running queue knows of an entry beside its state. */
export interface Now {
  readonly routeOf: RouteOf;
  /** Wall clock, ms. */
  readonly now: number;
  /** A courier has it. */
  readonly active?: boolean;
  /** Wall clock, ms, of the next try; undefined while that depends on a link, a route or a person. */
  readonly next?: number | undefined;
  readonly reason?: string;
  readonly wait?: Wait | undefined;
}

/** An entry as the queue shows it. */
export function toRow(state: EntryState, o: Now): QueueRow {
  const due = o.active === undefined ? state.due : o.next;
  const waits = state.attempts > 0 || state.due > o.now;
  const recipients = state.recipients.map(({ to, outcome }): QueueRecipient => {
    const way = o.routeOf(state.envelope.from, to);
    return {
      address: to,
      route: way?.route ?? null,
      host: way?.host ?? null,
      outcome: outcome?.type ?? null,
      reply: outcome === undefined || !('reply' in outcome) || !outcome.reply ? null : replyText(outcome.reply),
    };
  });
  return {
    id: state.id,
    from: state.envelope.from,
    size: state.size,
    state: state.held ? 'held' : o.active === true ? 'active' : waits ? 'deferred' : 'queued',
    arrived: new Date(state.arrived).toISOString(),
    next: state.held || due === undefined ? null : new Date(due).toISOString(),
    attempts: state.attempts,
    reason: reasonOf(state, o, recipients),
    ...(o.active !== true || o.wait === undefined || state.held
      ? {}
      : { waits: { for: o.wait.for, since: new Date(o.now - Math.round(o.wait.ms)).toISOString() } }),
    recipients,
  };
}

/** Why it waits. Without a daemon the routes may not be known: it can be told its HOST on the command line. */
function reasonOf(state: EntryState, o: Now, recipients: readonly QueueRecipient[]): string {
  const told = o.reason || state.reason;
  if (state.held || o.active === undefined) return told;
  const open = recipients.filter(({ outcome }) => outcome !== 'delivered' && outcome !== 'failed');
  const stranded = open.filter(({ route }) => route === null).map(({ address }) => address);
  if (stranded.length === 0) return told;
  const lost = `no route takes ${stranded.join(', ')}`;
  return told === '' || stranded.length === open.length ? lost : `${told}; ${lost}`;
}

/** Answers which route takes a recipient of the queue. */
export function routeFinder(routes: CompiledRoutes): RouteOf {
  return (from, to) => {
    const taken = routes.take(parseForwardPath(to), parseReversePath(from));
    if (taken === undefined) return undefined;
    return { route: taken.pattern, host: taken.route.host ?? taken.route.smarthost ?? '' };
  };
}
