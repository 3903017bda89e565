/** Which messages a command names, and which of them a FETCH still owes: content of a UID never changes (RFC 3501 §2.3.1.1). */
import type { Flight } from './flight.ts';
import type { Mailbox } from './mailbox.ts';
import { parseSet, type SequenceSet, setHas } from './sets.ts';

/** Whether a command whose first argument is a set names the client's message `n`. */
export function names(flight: Flight, n: number, mailbox: Mailbox): boolean {
  const set = parseSet(flight.words[0]?.value ?? '');
  return set !== undefined && isNamed(flight, set, n, mailbox);
}

function isNamed(flight: Flight, set: SequenceSet, n: number, { view }: Mailbox): boolean {
  if (!flight.name.startsWith('UID ')) return setHas(set, n, view.count);
  const uid = view.uid(n);
  return uid === 0 ? set.some(([, to]) => to === Number.POSITIVE_INFINITY) : setHas(set, uid, view.lastUid);
}

/** What a FETCH still owes: a set for the far side, none, or undefined when it must be given as it is. */
export type Rest = { readonly type: 'none' } | { readonly type: 'set'; readonly set: string } | undefined;

/** What a FETCH that was cut still owes. Notes in it when a message it names is gone. */
export function rest(flight: Flight, mailbox: Mailbox | undefined): Rest {
  const set = parseSet(flight.words[0]?.value ?? '');
  if (set === undefined || mailbox === undefined) return undefined;
  const { view, ghosts } = mailbox;
  const isUid = flight.name.startsWith('UID ');
  if (flight.delivered.length === 0 && (isUid || ghosts.size === 0)) return undefined;
  const given = new Set(flight.delivered);
  const owed: number[] = [];
  for (let n = 1; n <= view.count; n++) {
    if (!isNamed(flight, set, n, mailbox)) continue;
    if (ghosts.has(n)) flight.gone ||= !isUid && !given.has(view.uid(n));
    else if (!given.has(view.uid(n))) owed.push(n);
  }
  if (owed.length === 0) return { type: 'none' };
  return { type: 'set', set: isUid ? uidRanges(owed, mailbox, set) : ranges(owed.map((n) => ghosts.toFar(n))) };
}

function ranges(numbers: readonly number[]): string {
  const parts: string[] = [];
  for (let at = 0; at < numbers.length; ) {
    const from = numbers[at] as number;
    let to = from;
    for (at++; numbers[at] === to + 1; at++) to++;
    parts.push(from === to ? `${from}` : `${from}:${to}`);
  }
  return parts.join(',');
}

/** Between neighbours lies no other message, so that a few ranges say it. */
function uidRanges(owed: readonly number[], { view }: Mailbox, set: SequenceSet): string {
  const isOpen = set.some(([, to]) => to === Number.POSITIVE_INFINITY);
  const parts: string[] = [];
  for (let at = 0; at < owed.length; ) {
    const from = owed[at] as number;
    let to = from;
    for (at++; owed[at] === to + 1; at++) to++;
    const low = view.uid(from) || view.lastUid + 1;
    const high = to === view.count && isOpen ? '*' : String(view.uid(to));
    parts.push(String(low) === high ? high : `${low}:${high}`);
  }
  return parts.join(',');
}
