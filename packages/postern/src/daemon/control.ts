/** What the control socket answers: reads the parts, changes only the queue. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { defined, type EntryState, type LinkState } from '@postern/core';
import type { LeftReceipts } from '@postern/smtp';
import type { ResolvedHost } from '@postern/ssh';
import { bouncesDirectory, spoolDirectory } from '../base/paths.ts';
import type { ControlHandlers } from '../control/server.ts';
import type { DaemonStatus, HostStatus, RouteStatus } from '../control/status.ts';
import { inTurns } from '../control/turns.ts';
import { findEntry, noEntry, type QueueVerb } from '../queue/change.ts';
import { detailsOf, type QueueDetails } from '../queue/details.ts';
import { type QueueRow, routeFinder, toRow } from '../queue/row.ts';
import { forwardStatus } from './forwards.ts';
import type { Host } from './hosts.ts';
import { ReceiptsSeen } from './left-receipts.ts';
import type { DaemonParts } from './parts.ts';

/** What the control socket answers. */
export function controlHandlers(parts: DaemonParts): ControlHandlers {
  const change = (verb: QueueVerb) => async (params: Record<string, unknown>) => {
    const { id } = findEntry(parts.spool, String(params.id));
    if (!(await parts.runner[verb](id))) throw noEntry(id);
  };
  const receipts = new ReceiptsSeen(parts.env);
  return {
    status: () => status(parts, receipts),
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
  const routeOf = routeFinder(parts.active.routes);
  const now = parts.env.wallNow();
  return (state) => {
    const waiting = parts.runner.waiting(state.id);
    const { active: taken = false, next, reason = '', recipients = [], wait } = waiting ?? {};
    // A courier that has it may still wait for the link; then nothing is happening yet.
    const active = taken && recipients.some(({ host }) => parts.hosts.get(host ?? '')?.link.state.type === 'up');
    return toRow(state, { routeOf, now, active, next, reason, wait });
  };
}

function details(parts: DaemonParts, id: string): Promise<QueueDetails> {
  const row = rowMaker(parts)(findEntry(parts.spool, id));
  return detailsOf(row, { spool: parts.spool, dir: spoolDirectory(parts.active.config.stateDir) });
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

async function status(parts: DaemonParts, receipts: ReceiptsSeen): Promise<DaemonStatus> {
  const queue = { active: 0, queued: 0, deferred: 0, held: 0 };
  const routes = new Map<string, RouteStatus>();
  for await (const row of inTurns(rows(parts))) {
    queue[row.state] += 1;
    countByRoute(routes, row);
  }
  const bounces = bouncesDirectory(parts.active.config.stateDir);
  const left = await Promise.all(parts.hosts.all.map((host) => receipts.at(host)));
  const hosts = parts.hosts.all.map((host, at) => hostStatus(host, left[at]));
  return {
    pid: process.pid,
    startedAt: new Date(parts.startedAt).toISOString(),
    imap: { listen: parts.imap.addresses, sessions: parts.imap.sessions },
    smtp: { listen: parts.smtp.addresses, sessions: parts.smtp.sessions },
    tls: parts.tls.all.map(({ files, fingerprint, validTo }) => ({
      ...{ certificate: files.certificate, fingerprint },
      validTo: new Date(validTo).toISOString(),
    })),
    hosts,
    smarthosts: parts.smarthosts.all,
    forwards: forwardStatus(parts.forwards),
    reverses: parts.reverses.status,
    queue,
    routes: [...routes.values()],
    bounces: { path: bounces, messages: await countMessages(bounces) },
  };
}

function hostStatus({ name, resolved, link, imapd }: Host, receipts: LeftReceipts | undefined): HostStatus {
  const { state } = link;
  return {
    host: name,
    destination: formatHost(resolved),
    hops: resolved.jump.map(formatHost),
    state: state.type,
    spares: imapd.status.spares,
    carried: imapd.carried,
    channels: link.channels,
    ...(state.type === 'up' && state.rttMs !== undefined ? { rttMs: Math.round(state.rttMs * 10) / 10 } : {}),
    ...(state.type === 'down' ? downStatus(state) : {}),
    ...defined({ receipts }),
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
