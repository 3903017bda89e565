/** Hold, release and remove: the daemon's work, or the spool's where there is none. */
import { type EntryState, type Env, isEntryId, type Spool, SpoolError } from '@postern/core';
import { PosternError } from '../base/errors.ts';

/** What a person can do to an entry. */
export type QueueVerb = 'hold' | 'release' | 'remove';

/** True for the name of a {@link QueueVerb}. */
export function isQueueVerb(text: string): text is QueueVerb {
  return text === 'hold' || text === 'release' || text === 'remove';
}

/** The entry of that name. Throws {@link PosternError} `no-input`. */
export function findEntry(spool: Spool, id: string): EntryState {
  const state = isEntryId(id) ? spool.get(id) : undefined;
  if (state === undefined) throw noEntry(id);
  return state;
}

/** Holds, releases or removes an entry; durable when it resolves. Throws {@link PosternError} `no-input`. */
export async function changeEntry(spool: Spool, verb: QueueVerb, id: string, env: Env): Promise<void> {
  const state = findEntry(spool, id);
  const at = env.wallNow();
  try {
    if (verb === 'remove') await spool.remove(state.id);
    else if (verb === 'release') await release(spool, state, at);
    else if (!state.held) await spool.record(state.id, { type: 'hold', at, reason: 'held by hand' });
  } catch (error) {
    if (error instanceof SpoolError && error.code === 'gone') throw noEntry(id);
    throw error;
  }
}

async function release(spool: Spool, state: EntryState, at: number): Promise<void> {
  if (!state.held) return;
  await spool.record(
    state.id,
    { type: 'release', at },
    { type: 'next', at, due: at, reason: 'released by hand', elapsed: state.elapsed },
  );
}

/** The error for a name that is not in the queue. */
export function noEntry(id: string): PosternError {
  return new PosternError('no-input', `there is no entry ${JSON.stringify(id.slice(0, 60))} in the queue`, {
    fix: 'postern queue   lists what is there',
  });
}
