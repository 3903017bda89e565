/** The client's message numbers in the far side's and back, while they differ. */
import type { Flight } from './flight.ts';
import type { Ghosts } from './ghosts.ts';
import type { Mailbox } from './mailbox.ts';
import { names } from './remaining.ts';
import { formatSet, parseSet } from './sets.ts';

/** Search keys whose argument looks like a set and is none (RFC 3501 §6.4.4, RFC 5032, RFC 7162). */
const TAKES_NUMBER =
  /^(?:UID|LARGER|SMALLER|OLDER|YOUNGER|MODSEQ|SUBJECT|BODY|TEXT|FROM|TO|CC|BCC|KEYWORD|UNKEYWORD|HEADER)$/i;

/** The first line of a command in the far side's numbers; undefined when it names a message that is gone, or cannot be read. */
export function translateCommand(flight: Flight, mailbox: Mailbox): Buffer | undefined {
  if (flight.row.kind === 'search') return translateSearch(flight, mailbox);
  const set = parseSet(flight.words[0]?.value ?? '');
  if (set === undefined) return flight.segments[0]?.bytes;
  const { view, ghosts } = mailbox;
  const far: number[] = [];
  for (let n = 1; n <= view.count; n++) {
    if (!names(flight, n, mailbox)) continue;
    if (!ghosts.has(n)) far.push(ghosts.toFar(n));
    else if (flight.row.kind !== 'fetch') return undefined;
    else flight.gone = true;
  }
  return far.length === 0 ? undefined : flight.withSet(formatSet(far));
}

function translateSearch(flight: Flight, { view, ghosts }: Mailbox): Buffer | undefined {
  const line = flight.segments[0]?.bytes.toString('latin1') ?? '';
  if (flight.segments.length > 1) return /[( ][\d*][\d:,*]*[) ]/.test(line) ? undefined : flight.segments[0]?.bytes;
  let before = '';
  let isGone = false;
  const far = line.replace(/[^\s()]+/g, (word, at: number) => {
    const set = at === 0 || TAKES_NUMBER.test(before) ? undefined : parseSet(word);
    before = word;
    if (set === undefined) return word;
    const numbers: number[] = [];
    for (let n = 1; n <= view.count; n++) {
      const isNamed = set.some(([a, b]) => n >= Math.min(a, view.count) && n <= Math.min(b, view.count));
      if (isNamed && !ghosts.has(n)) numbers.push(ghosts.toFar(n));
    }
    if (numbers.length === 0) isGone = true;
    return formatSet(numbers);
  });
  return isGone ? undefined : Buffer.from(far, 'latin1');
}

/** The answer to a search by numbers, in the client's. */
export function translateAnswer(line: Buffer, word: string, ghosts: Ghosts): Buffer {
  const text = line.toString('latin1');
  const number = (digits: string): string => String(ghosts.toClient(Number(digits)));
  if (word === 'ESEARCH') {
    const told = text.replace(
      /\b(ALL|MIN|MAX) ([\d:,]+)/gi,
      (_all, key: string, set: string) => `${key} ${spread(set, ghosts)}`,
    );
    return Buffer.from(told, 'latin1');
  }
  if (word !== 'SEARCH' && word !== 'SORT' && word !== 'THREAD') return line;
  const [, list = text, tail = ''] = /^(.*?)( \(MODSEQ \d+\)\s*)?$/is.exec(text) ?? [];
  return Buffer.from(list.replace(/\d+/g, number) + tail, 'latin1');
}

function spread(set: string, ghosts: Ghosts): string {
  return (parseSet(set) ?? [])
    .flatMap(([from, to]) => {
      const numbers: number[] = [];
      for (let n = from; n <= to; n++) numbers.push(ghosts.toClient(n));
      return formatSet(numbers);
    })
    .join(',');
}
