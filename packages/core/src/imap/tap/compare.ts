/** Two views of one mailbox: the client's, and that of a new far session. Anything that cannot be told truthfully is an error. */
import type { Fresh } from './fresh.ts';
import type { Mailbox } from './mailbox.ts';

/** What is to be told. Numbers are the client's. */
export interface Difference {
  readonly type: 'difference';
  /** Messages that are gone, ascending. */
  readonly gone: readonly number[];
  /** UIDs that are new to the view; the first of them belong to messages the client has been told of by number only. */
  readonly extra: readonly number[];
  /** Messages behind them that have no UID yet. */
  readonly unnamed: number;
}

/** Why a session cannot go on, in a few words. */
export interface Untrue {
  readonly type: 'untrue';
  readonly reason: string;
}

/** Compares; changes nothing. */
export function compare(mailbox: Mailbox, fresh: Fresh): Difference | Untrue {
  const reason = changed(mailbox, fresh);
  if (reason !== undefined) return { type: 'untrue', reason };
  const { view } = mailbox;
  const there = new Set(fresh.uids);
  const gone: number[] = [];
  for (let n = 1; n <= view.known; n++) if (!there.delete(view.uid(n))) gone.push(n);
  const extra = [...there];
  const [first] = extra;
  if (first !== undefined && first <= view.lastUid) return { type: 'untrue', reason: 'an old message has come back' };
  const unnamed = fresh.count - fresh.uids.length;
  const tail = view.count - view.known;
  if (tail > 0 && mailbox.isTouched && extra.length + unnamed !== tail) {
    return { type: 'untrue', reason: 'new messages cannot be told apart' };
  }
  return { type: 'difference', gone, extra, unnamed };
}

function changed(mailbox: Mailbox, fresh: Fresh): string | undefined {
  if (!fresh.isMapped) return 'the far side does not tell what is in the mailbox';
  const text = fresh.lines.join('\n');
  const validity = /\[UIDVALIDITY (\d+)\]/i.exec(text)?.[1];
  if (validity !== mailbox.uidValidity) return 'the mailbox is another one now';
  const isReadOnly = /\[READ-ONLY\]/i.test(text) || (mailbox.command === 'EXAMINE' && !/\[READ-WRITE\]/i.test(text));
  if (isReadOnly !== mailbox.isReadOnly) return 'the mailbox may no longer be used as before';
  const modseq = BigInt(/\[HIGHESTMODSEQ (\d{1,19})\]/i.exec(text)?.[1] ?? 0);
  if (modseq < mailbox.highestModseq) return 'the mailbox has gone back in time';
  return undefined;
}
