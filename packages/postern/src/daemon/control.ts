import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { EntryState, LinkState } from '@postern/core';
import type { ResolvedHost } from '@postern/ssh';
import type { ControlHandlers } from '../control/server.ts';
import { inTurns } from '../control/turns.ts';
import { bouncesDirectory, spoolDirectory } from '../paths.ts';
import { findEntry, noEntry, type QueueVerb } from '../queue/change.ts';
import { detailsOf, type QueueDetails } from '../queue/details.ts';
import { routeFinder } from '../queue/route-of.ts';
import { type QueueRow, toRow } from '../queue/row.ts';
import type { DaemonParts } from './daemon.ts';
import { type ForwardStatus, forwardStatus, type ReverseStatus } from './forwards.ts';
import type { SmarthostStatus } from './smarthosts.ts';

/** A host as `postern status --json` shows it. */
export interface HostStatus {
  readonly host: string;
  /** `[user@]hostname:port` as resolved. */
  readonly destination: string;
  /** The jump hosts, the first to dial first, in the same form. */
  readonly hops: readonly string[];
  readonly state: LinkState['type'];
  /** One sentence; while down. */
  readonly error?: string;
  readonly fix?: string;
  /** ISO 8601; absent when it will not redial by itself. */
  readonly retryAt?: string;
  readonly rttMs?: number;
  readonly spares: number;
  /** Open on its connections, spares and what is lent among them. */
  readonly channels: number;
}

/** What of the queue goes one way, as `postern status --json` shows it. */
export interface RouteStatus {
  /** The pattern that takes it now; null when no route does. */
  readonly route: string | null;
  /** Host or smarthost. */
  readonly host: string | null;
  /** Entries with recipients that go there. */
  readonly entries: number;
  /** The soonest next try, ISO 8601; null while that depends on a link, a route or a person. */
  readonly next: string | null;
  /** Why the first of them that was tried waits; empty while none was. */
  readonly reason: string;
}

/** A listener's certificate as `postern status --json` shows it. */
export interface TlsStatus {
  readonly certificate: string;
  /** SHA-256, upper-case hex with colons. */
  readonly fingerprint: string;
  /** ISO 8601. */
  readonly validTo: string;
}

/** What `postern status --json` gives. */
export interface DaemonStatus {
  readonly pid: number;
  /** ISO 8601. */
  readonly startedAt: string;
  readonly imap: { readonly listen: readonly string[]; readonly sessions: number };
  readonly smtp: { readonly listen: readonly string[]; readonly sessions: number };
  /** Certificates of listeners with TLS. */
  readonly tls: readonly TlsStatus[];
  readonly hosts: readonly HostStatus[];
  readonly smarthosts: readonly SmarthostStatus[];
  readonly forwards: readonly ForwardStatus[];
  readonly reverses: readonly ReverseStatus[];
  /** Entries by state. */
  readonly queue: Readonly<Record<QueueRow['state'], number>>;
  /** The queue by where it goes. */
  readonly routes: readonly RouteStatus[];
  /** The Maildir of DSNs that no route takes, and how many messages lie in it. */
  readonly bounces: { readonly path: string; readonly messages: number };
}

/** What the control socket answers. */
export function controlHandlers(parts: DaemonParts): ControlHandlers {
  const change = (verb: QueueVerb) => async (params: Record<string, unknown>) => {
    const { id } = findEntry(parts.spool, String(params.id));
    if (!(await parts.runner[verb](id))) throw noEntry(id);
  };
  return {
    status: () => status(parts),
    'queue.list': () => rows(parts),
    'queue.show': ({ id }) => details(parts, String(id)),
    'queue.flush': ({ what }) => flush(parts, typeof what === 'string' ? what : undefined),
    'queue.hold': change('hold'),
    'queue.release': change('release'),
    'queue.remove': change('remove'),
  };
}

/** Every entry, one at a time: there may be a hundred thousand. */
function* rows(parts: DaemonParts): Generator<QueueRow> {
  const rowOf = rowMaker(parts);
  for (const state of parts.spool.entries()) yield rowOf(state);
}

function rowMaker(parts: DaemonParts): (state: EntryState) => QueueRow {
  const routeOf = routeFinder(parts.live.routes);
  const now = parts.env.wallNow();
  return (state) => {
    const { active: taken = false, next, reason = '', recipients = [] } = parts.runner.waiting(state.id) ?? {};
    // A courier that has it may still wait for the link; then nothing is happening yet.
    const active = taken && recipients.some(({ host }) => parts.hosts.get(host ?? '')?.link.state.type === 'up');
    return toRow(state, { routeOf, now, active, next, reason });
  };
}

function details(parts: DaemonParts, id: string): Promise<QueueDetails> {
  const row = rowMaker(parts)(findEntry(parts.spool, id));
  return detailsOf(row, { spool: parts.spool, dir: spoolDirectory(parts.live.config.stateDir) });
}

/** Makes due, and wakes the links concerned: all, one entry, or what goes through one host. */
async function flush(parts: DaemonParts, what: string | undefined): Promise<{ entries: number }> {
  const host = what === undefined ? undefined : parts.hosts.get(what);
  const smarthost = parts.smarthosts.all.some((one) => one.smarthost === what);
  const one = what === undefined || host !== undefined || smarthost ? undefined : findEntry(parts.spool, what);
  let entries = 0;
  for await (const row of inTurns(one === undefined ? rows(parts) : [rowMaker(parts)(one)])) {
    const concerned = what === undefined || one !== undefined || row.recipients.some((to) => to.host === what);
    if (row.state !== 'held' && concerned) entries++;
  }
  if (what === undefined) for (const { link } of parts.hosts.all) link.wake('flush');
  host?.link.wake('flush');
  parts.runner.flush(what);
  return { entries };
}

async function status(parts: DaemonParts): Promise<DaemonStatus> {
  const queue = { active: 0, queued: 0, deferred: 0, held: 0 };
  const routes = new Map<string, RouteStatus>();
  for await (const row of inTurns(rows(parts))) {
    queue[row.state] += 1;
    countByRoute(routes, row);
  }
  const bounces = bouncesDirectory(parts.live.config.stateDir);
  return {
    pid: process.pid,
    startedAt: new Date(parts.startedAt).toISOString(),
    imap: { listen: parts.imap.addresses, sessions: parts.imap.sessions },
    smtp: { listen: parts.smtp.addresses, sessions: parts.smtp.sessions },
    tls: parts.tls.all.map(({ files, fingerprint, validTo }) => ({
      ...{ certificate: files.certificate, fingerprint },
      validTo: new Date(validTo).toISOString(),
    })),
    hosts: parts.hosts.all.map(({ name, resolved, link, imapd }): HostStatus => {
      const state = link.state;
      return {
        host: name,
        destination: formatHost(resolved),
        hops: resolved.jump.map(formatHost),
        state: state.type,
        spares: imapd.status.spares,
        channels: link.channels,
        ...(state.type === 'up' && state.rttMs !== undefined ? { rttMs: Math.round(state.rttMs * 10) / 10 } : {}),
        ...(state.type === 'down' ? downStatus(state) : {}),
      };
    }),
    smarthosts: parts.smarthosts.all,
    forwards: forwardStatus(parts.forwards),
    reverses: parts.reverses.status,
    queue,
    routes: [...routes.values()],
    bounces: { path: bounces, messages: await countMessages(bounces) },
  };
}

function formatHost({ user, hostname, port }: ResolvedHost): string {
  return `${user}@${hostname.includes(':') ? `[${hostname}]` : hostname}:${port}`;
}

function countByRoute(routes: Map<string, RouteStatus>, { recipients, next, reason }: QueueRow): void {
  const open = recipients.filter(({ outcome }) => outcome !== 'delivered' && outcome !== 'failed');
  for (const [key, { route, host }] of new Map(open.map((to) => [JSON.stringify([to.route, to.host]), to]))) {
    const before = routes.get(key);
    // ISO 8601 in UTC sorts by time.
    const soonest = [before?.next, next].filter((at) => at != null).sort()[0] ?? null;
    routes.set(key, {
      ...{ route, host, next: soonest },
      entries: (before?.entries ?? 0) + 1,
      reason: before?.reason || reason,
    });
  }
}

/** Those read too: they lie there until somebody takes them away. */
async function countMessages(maildir: string): Promise<number> {
  const lists = await Promise.all(['new', 'cur'].map((name) => readdir(join(maildir, name)).catch(() => [])));
  return lists.flat().length;
}

function downStatus({ error, retryAt }: LinkState & { type: 'down' }): Pick<HostStatus, 'error' | 'fix' | 'retryAt'> {
  return {
    error: error.message,
    ...(error.fix === undefined ? {} : { fix: error.fix }),
    ...(retryAt === undefined ? {} : { retryAt: new Date(retryAt).toISOString() }),
  };
}
