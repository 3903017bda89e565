/** `postern queue`: asks the daemon; without one, reads the spool. */
import { printable, type Spool, systemEnv } from '@postern/core';
import { PosternError } from '../base/errors.ts';
import { spoolDirectory } from '../base/paths.ts';
import type { Config } from '../config/load.ts';
import { routesOf } from '../config/plan.ts';
import { toRoutes } from '../config/routes.ts';
import { changeEntry, noEntry, type QueueVerb } from '../queue/change.ts';
import { detailsOf, formatDetails, type QueueDetails } from '../queue/details.ts';
import { withSpool } from '../queue/offline.ts';
import { formatQueue, type QueueRow, routeFinder, toRow } from '../queue/row.ts';
import { askDaemon, type Context, configOf, show } from './context.ts';

/** `postern queue list`: what the daemon has, or, when none runs, what lies in the spool. */
export async function queueList(context: Context): Promise<void> {
  const rows = await queueRows(configOf(context));
  show(context, rows, () => formatQueue(rows));
}

/** The queue's rows, from the daemon or, when none runs, from the spool. */
export function queueRows(config: Config): Promise<QueueRow[]> {
  return daemonOr(
    async () => (await askDaemon(config, 'queue.list')) as QueueRow[],
    () => withSpool(config, [], (spool) => offlineRows(config, spool)),
  );
}

function offlineRows(config: Config, spool: Spool): QueueRow[] {
  const o = { routeOf: routeFinder(toRoutes(routesOf(config))), now: systemEnv.wallNow() };
  return [...spool.entries()].map((state) => toRow(state, o));
}

async function daemonOr<T>(daemon: () => Promise<T>, alone: () => Promise<T>): Promise<T> {
  try {
    return await daemon();
  } catch (error) {
    if (error instanceof PosternError && error.code === 'unavailable') return alone();
    throw error;
  }
}

/** `postern queue show ID`: the entry, its journal and its header. */
export async function queueShow(context: Context, id: string): Promise<void> {
  const config = configOf(context);
  const details = await daemonOr(
    async () => (await askDaemon(config, 'queue.show', { id })) as QueueDetails,
    async () => {
      const found = await withSpool(config, undefined, (spool) => {
        const row = offlineRows(config, spool).find((candidate) => candidate.id === id);
        return row === undefined ? undefined : detailsOf(row, { spool, dir: spoolDirectory(config.stateDir) });
      });
      if (found === undefined) throw noEntry(id);
      return found;
    },
  );
  show(context, details, () => formatDetails(details));
}

/** `postern queue flush [ID|HOST]`: due now, back-off reset, dialled now. */
export async function queueFlush(context: Context, what: string | undefined): Promise<void> {
  const { entries } = (await askDaemon(configOf(context), 'queue.flush', what === undefined ? {} : { what })) as {
    entries: number;
  };
  show(context, { entries }, () => [entries === 1 ? '1 entry is due now' : `${entries} entries are due now`]);
}

/** `postern queue hold|release|remove ID`. */
export async function queueChange(context: Context, verb: QueueVerb, id: string): Promise<void> {
  const config = configOf(context);
  await daemonOr(
    async () => void (await askDaemon(config, `queue.${verb}`, { id })),
    async () => {
      const there = await withSpool(config, false, async (spool) => {
        await changeEntry(spool, verb, id, systemEnv);
        return true;
      });
      if (!there) throw noEntry(id);
    },
  );
  const done = { hold: 'held', release: 'released', remove: 'removed' }[verb];
  show(context, { id, done }, () => [`${printable(id)} ${done}`]);
}
