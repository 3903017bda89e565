/** The questions of a crossing, in their order: what became of what was under way, then the mailbox as it is now. Answers in, a result out. */
import type { Flight } from './flight.ts';
import { Fresh } from './fresh.ts';
import { lookUp } from './look-up.ts';
import type { Mailbox } from './mailbox.ts';
import type { Answer, Question } from './question.ts';

/** How it ended. */
export type CrossingResult =
  | { readonly type: 'restored'; readonly fresh: Fresh | undefined }
  | { readonly type: 'untrue'; readonly reason: string };

/** Yields questions that are asked in one write; is given their answers. */
export type Crossing = Generator<readonly Question[], CrossingResult, readonly Answer[]>;

/** What a crossing starts from. Verdicts are written into the flights. */
export interface CrossingOptions {
  readonly flights: readonly Flight[];
  readonly mailbox: Mailbox | undefined;
  readonly enabled: readonly string[];
  readonly isCondstore: boolean;
  readonly has: (capability: string) => boolean;
}

/** See the file's law. */
export function* crossing(o: CrossingOptions): Crossing {
  yield* lookUp(o);
  const mailbox = o.flights[0]?.row.kind === 'select' && o.flights[0].verdict === undefined ? undefined : o.mailbox;
  const enable = o.enabled.length === 0 ? [] : [`ENABLE ${o.enabled.join(' ')}`];
  const again = mailbox === undefined ? [] : questionsOf(mailbox, o);
  if (again === undefined) return { type: 'untrue', reason: 'its mailbox cannot be named again' };
  const answers = yield [...enable, ...again];
  const [first, ...others] = answers;
  if (enable.length > 0 && first?.status !== 'OK') return { type: 'untrue', reason: 'the far side is another one now' };
  const told = enable.length > 0 ? others : answers;
  if (mailbox === undefined) return { type: 'restored', fresh: undefined };
  if (told[0]?.status !== 'OK') return { type: 'untrue', reason: 'its mailbox is gone' };
  const fresh = new Fresh();
  for (const response of told[0].responses) fresh.hear(response);
  for (const { line, status } of told) if (status === 'OK') fresh.lines.push(line);
  return { type: 'restored', fresh };
}

function questionsOf(mailbox: Mailbox, o: CrossingOptions): Question[] | undefined {
  const isEnabled = o.enabled.includes('CONDSTORE') || o.enabled.includes('QRESYNC');
  const select = mailbox.reselect({ condstore: o.isCondstore && !isEnabled && o.has('CONDSTORE') });
  if (select === undefined) return undefined;
  const map = o.has('ESEARCH') ? 'UID SEARCH RETURN (ALL) ALL' : 'UID SEARCH ALL';
  const items = o.isCondstore ? '(UID FLAGS MODSEQ)' : '(FLAGS)';
  const uids = o.enabled.includes('QRESYNC') || o.enabled.includes('UIDONLY');
  const flags = mailbox.view.count === 0 ? [] : [`FETCH 1:* ${uids && !o.isCondstore ? '(UID FLAGS)' : items}`];
  return [select, map, ...flags];
}
