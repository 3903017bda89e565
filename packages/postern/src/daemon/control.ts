import type { LinkState } from '@postern/core';
import type { ControlHandlers } from '../control/server.ts';
import { spoolDirectory } from '../paths.ts';
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
  readonly state: LinkState['type'];
  /** One sentence; while down. */
  readonly error?: string;
  readonly fix?: string;
  /** ISO 8601; absent when it will not redial by itself. */
  readonly retryAt?: string;
  readonly rttMs?: number;
  readonly spares: number;
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

function rows(parts: DaemonParts): QueueRow[] {
  const routeOf = routeFinder(parts.live.routes);
  const now = parts.env.wallNow();
  return [...parts.spool.entries()].map((state) => {
    const { active: taken = false, next, reason = '', recipients = [] } = parts.runner.waiting(state.id) ?? {};
    // A courier that has it may still wait for the link; then nothing is happening yet.
    const active = taken && recipients.some(({ host }) => parts.hosts.get(host ?? '')?.link.state.type === 'up');
    return toRow(state, { routeOf, now, active, next, reason });
  });
}

function details(parts: DaemonParts, id: string): Promise<QueueDetails> {
  const entry = findEntry(parts.spool, id);
  const row = rows(parts).find((candidate) => candidate.id === entry.id);
  if (row === undefined) throw noEntry(id);
  return detailsOf(row, { spool: parts.spool, dir: spoolDirectory(parts.live.config.stateDir) });
}

/** Makes due, and wakes the links concerned: all, one entry, or what goes through one host. */
function flush(parts: DaemonParts, what: string | undefined): { entries: number } {
  const host = what === undefined ? undefined : parts.hosts.get(what);
  const smarthost = parts.smarthosts.all.some((one) => one.smarthost === what);
  if (what !== undefined && host === undefined && !smarthost) findEntry(parts.spool, what);
  const concerned = rows(parts).filter(
    (row) =>
      row.state !== 'held' &&
      (what === undefined || row.id === what || row.recipients.some((recipient) => recipient.host === what)),
  );
  if (what === undefined) for (const { link } of parts.hosts.all) link.wake('flush');
  host?.link.wake('flush');
  parts.runner.flush(what);
  return { entries: concerned.length };
}

function status(parts: DaemonParts): DaemonStatus {
  const queue = { active: 0, queued: 0, deferred: 0, held: 0 };
  for (const row of rows(parts)) queue[row.state] += 1;
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
      const { user, hostname, port } = resolved;
      const state = link.state;
      return {
        host: name,
        destination: `${user}@${hostname.includes(':') ? `[${hostname}]` : hostname}:${port}`,
        state: state.type,
        spares: imapd.status.spares,
        ...(state.type === 'up' && state.rttMs !== undefined ? { rttMs: Math.round(state.rttMs * 10) / 10 } : {}),
        ...(state.type === 'down' ? downStatus(state) : {}),
      };
    }),
    smarthosts: parts.smarthosts.all,
    forwards: forwardStatus(parts.forwards),
    reverses: parts.reverses.status,
    queue,
  };
}

function downStatus({ error, retryAt }: LinkState & { type: 'down' }): Pick<HostStatus, 'error' | 'fix' | 'retryAt'> {
  return {
    error: error.message,
    ...(error.fix === undefined ? {} : { fix: error.fix }),
    ...(retryAt === undefined ? {} : { retryAt: new Date(retryAt).toISOString() }),
  };
}
