/** `postern queue`: asks the daemon; without one, reads the spool. */
import { printable } from '@postern/core';
import { PosternError } from '../base/errors.ts';
import type { QueueVerb } from '../queue/change.ts';
import type { QueueDetails } from '../queue/details.ts';
import type { QueueRow } from '../queue/row.ts';
import { askDaemon, type Context, configOf, show } from './context.ts';

/** What asking takes. */
type Asker = Pick<Context, 'surroundings' | 'options'>;

/** `postern queue list`: what the daemon has, or, when none runs, what lies in the spool. */
export async function queueList(context: Context): Promise<void> {
  const rows = await queueRows(context);
  const { formatQueue } = await import('../queue/format.ts');
  show(context, rows, () => formatQueue(rows));
}

/** The queue's rows, from the daemon or, when none runs, from the spool. */
export function queueRows(context: Asker): Promise<QueueRow[]> {
  return daemonOr(
    async () => (await askDaemon(context, 'queue.list')) as QueueRow[],
    async ({ rowsAlone }) => rowsAlone(await configOf(context)),
  );
}

/** What needs no daemon is loaded when there is none. */
async function daemonOr<T>(
  daemon: () => Promise<T>,
  alone: (what: typeof import('../queue/alone.ts')) => Promise<T>,
): Promise<T> {
  try {
    return await daemon();
  } catch (error) {
    if (!(error instanceof PosternError) || error.code !== 'unavailable') throw error;
    return alone(await import('../queue/alone.ts'));
  }
}

/** `postern queue show ID`: the entry, its journal and its header. */
export async function queueShow(context: Context, id: string): Promise<void> {
  const details = await daemonOr(
    async () => (await askDaemon(context, 'queue.show', { id })) as QueueDetails,
    async ({ detailsAlone }) => detailsAlone(await configOf(context), id),
  );
  const { formatDetails } = await import('../queue/details.ts');
  show(context, details, () => formatDetails(details));
}

/** `postern queue flush [ID|HOST]`: due now, back-off reset, dialled now. */
export async function queueFlush(context: Context, what: string | undefined): Promise<void> {
  const { entries } = (await askDaemon(context, 'queue.flush', what === undefined ? {} : { what })) as {
    entries: number;
  };
  show(context, { entries }, () => [entries === 1 ? '1 entry is due now' : `${entries} entries are due now`]);
}

/** `postern queue hold|release|remove ID`. */
export async function queueChange(context: Context, verb: QueueVerb, id: string): Promise<void> {
  await daemonOr(
    async () => void (await askDaemon(context, `queue.${verb}`, { id })),
    async ({ changeAlone }) => changeAlone(await configOf(context), verb, id),
  );
  const done = { hold: 'held', release: 'released', remove: 'removed' }[verb];
  show(context, { id, done }, () => [`${printable(id)} ${done}`]);
}
