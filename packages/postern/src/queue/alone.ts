/** What `postern queue` does where no daemon runs: reads the configuration and the spool itself. */
import { type Spool, systemEnv } from '@postern/core';
import { spoolDirectory } from '../base/paths.ts';
import type { Config } from '../config/load.ts';
import { routesOf } from '../config/plan.ts';
import { toRoutes } from '../config/routes.ts';
import { changeEntry, noEntry, type QueueVerb } from './change.ts';
import { detailsOf, type QueueDetails } from './details.ts';
import { withSpool } from './offline.ts';
import { type QueueRow, routeFinder, toRow } from './row.ts';

/** Every entry of the spool. */
export function rowsAlone(config: Config): Promise<QueueRow[]> {
  return withSpool(config, [], (spool) => rowsOf(config, spool));
}

function rowsOf(config: Config, spool: Spool): QueueRow[] {
  const o = { routeOf: routeFinder(toRoutes(routesOf(config))), now: systemEnv.wallNow() };
  return [...spool.entries()].map((state) => toRow(state, o));
}

/** One entry with its header. Throws {@link PosternError} `no-input` when there is none. */
export async function detailsAlone(config: Config, id: string): Promise<QueueDetails> {
  const found = await withSpool(config, undefined, (spool) => {
    const row = rowsOf(config, spool).find((candidate) => candidate.id === id);
    return row === undefined ? undefined : detailsOf(row, { spool, dir: spoolDirectory(config.stateDir) });
  });
  if (found === undefined) throw noEntry(id);
  return found;
}

/** Holds, releases or removes an entry. Throws {@link PosternError} `no-input` when there is none. */
export async function changeAlone(config: Config, verb: QueueVerb, id: string): Promise<void> {
  const there = await withSpool(config, false, async (spool) => {
    await changeEntry(spool, verb, id, systemEnv);
    return true;
  });
  if (!there) throw noEntry(id);
}
