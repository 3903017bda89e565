/** Questions of our own: their answers are swallowed, and never the client's first one delayed. */
import { type Flight, isFlight, type Own } from './flight.ts';
import { allOf, listed } from './fresh.ts';
import type { Mailbox } from './mailbox.ts';
import { names } from './remaining.ts';
import { parseSet } from './sets.ts';
import type { TapState } from './state.ts';
import { fetchUid, quoted } from './words.ts';

/** How often a mailbox is asked for its UIDs when messages came or went under the answer. */
export const MAX_MAP_TRIES = 5;

/** Writes a question of our own, at once: nothing of the client is half said. */
function putQuestion(s: TapState, text: string, o: Pick<Own, 'hear' | 'end'>): string {
  const tag = s.newTag();
  s.flying.push({ tag, ...o });
  s.toFar.say(`${tag} ${text}\r\n`);
  return tag;
}

export function askMap(s: TapState): void {
  const isExtended = s.has('ESEARCH');
  let isAnswered = false;
  const tag = putQuestion(s, isExtended ? 'UID SEARCH RETURN (ALL) ALL' : 'UID SEARCH ALL', {
    hear: (line) => {
      const text = line.toString('latin1');
      if (isAnswered || !/^\* E?SEARCH\b/i.test(text)) return 'pass';
      if (/^\* ESEARCH/i.test(text) && !text.includes(`"${tag}"`)) return 'pass';
      isAnswered = true;
      const uids = /^\* ESEARCH/i.test(text) ? allOf(text) : listed(text);
      const mailbox = s.mailbox;
      if (mailbox !== undefined) mailbox.mapTries++;
      if (mailbox === undefined || uids === undefined || mailbox.ghosts.size > 0) return 'drop';
      if (uids.length !== mailbox.view.count || mailbox.view.known > 0) return 'drop';
      mailbox.isMapped = mailbox.view.name(uids);
      return 'drop';
    },
    end: (status) => {
      if (status !== 'OK' && s.mailbox !== undefined) s.mailbox.mapTries = MAX_MAP_TRIES;
    },
  });
}

/** New messages get their UIDs. */
export function askTail(s: TapState, mailbox: Mailbox): void {
  const { view } = mailbox;
  const found = new Map<number, number>();
  const [first, last] = [view.known + 1, view.count];
  putQuestion(s, `FETCH ${first}:${last} (UID)`, {
    hear: (line) => {
      const text = line.toString('latin1');
      const [, n] = /^\* (\d+) FETCH \(/i.exec(text) ?? [];
      const uid = fetchUid(text);
      // Dovecot answers FETCHes that follow each other before it ends the first: what was not asked here is the client's.
      if (n === undefined || uid === 0 || found.has(Number(n)) || Number(n) < first || Number(n) > last) return 'pass';
      found.set(Number(n), uid);
      return /^\* \d+ FETCH \(UID \d+\)\r?\n$/i.test(text) ? 'drop' : 'pass';
    },
    end: () => {
      const uids: number[] = [];
      for (let n = view.known + 1; found.has(n); n++) uids.push(found.get(n) as number);
      // Messages may have gone under the question: it is asked again, but not for ever.
      if (uids.length === 0) mailbox.mapTries++;
      else if (view.name(uids) && view.known === view.count) mailbox.isTouched = false;
      for (const flight of s.flights) if (isCopying(flight)) flight.sources ??= namedUids(s, flight);
    },
  });
}

function isCopying({ row }: Flight): boolean {
  return row.kind === 'copy' || row.kind === 'move';
}

/** Asks what is there before something is put there. */
export function askDestination(s: TapState, flight: Flight, name: string | undefined): void {
  const at = flight.row.kind === 'append' ? name : flight.words[1]?.value;
  const said = at === undefined ? undefined : quoted(at);
  if (isCopying(flight)) nameSources(s, flight);
  if (at === undefined || said === undefined) {
    flight.isUncertain = true;
    return;
  }
  // What a MOVE has taken away can no longer be compared: it needs the bound of this very moment.
  const isMove = flight.row.kind === 'move';
  const known = isMove ? undefined : s.destinations.get(keyOf(at));
  if (flight.destination?.uidNext !== undefined) return;
  flight.destination = known === undefined ? { name: at } : { ...known };
  if (known !== undefined) return;
  const { destination } = flight;
  putQuestion(s, `STATUS ${said} (UIDNEXT UIDVALIDITY)`, {
    hear: (line) => {
      const text = line.toString('latin1');
      if (!/^\* STATUS /i.test(text)) return 'pass';
      destination.uidNext = Number(/UIDNEXT (\d+)/i.exec(text)?.[1] ?? Number.NaN);
      destination.uidValidity = Number(/UIDVALIDITY (\d+)/i.exec(text)?.[1] ?? Number.NaN);
      return 'drop';
    },
    end: (status) => {
      if (status === 'NO') destination.uidNext = 0;
      else if (destination.uidNext === undefined || Number.isNaN(destination.uidNext)) {
        destination.uidNext = 0;
        flight.isUncertain = true;
      }
    },
  });
}

/** Which messages a COPY or MOVE names, noted before it runs: those that have just come are asked for ahead of it. */
function nameSources(s: TapState, flight: Flight): void {
  flight.sources = namedUids(s, flight);
  const { mailbox } = s;
  if (flight.sources !== undefined || mailbox === undefined || !mailbox.isMapped) return;
  const isAsking = s.flying.some((one) => !isFlight(one));
  if (mailbox.view.known < mailbox.view.count && !isAsking) askTail(s, mailbox);
}

/** UIDs a COPY or MOVE names; undefined when they cannot be known. */
function namedUids(s: TapState, flight: Flight): readonly number[] | undefined {
  const mailbox = s.mailbox;
  const set = parseSet(flight.words[0]?.value ?? '');
  if (mailbox === undefined || !mailbox.isMapped || set === undefined) return undefined;
  const { view } = mailbox;
  const last = Math.max(...set.map(([, to]) => to));
  const isBeyond = flight.name.startsWith('UID ') ? last > view.lastUid : last > view.known;
  if (view.known < view.count && isBeyond) return undefined;
  const uids: number[] = [];
  for (let n = 1; n <= mailbox.view.known; n++) {
    if (!mailbox.ghosts.has(n) && names(flight, n, mailbox)) uids.push(mailbox.view.uid(n));
  }
  return uids;
}

/** INBOX is one mailbox however it is written (RFC 3501 §5.1). */
function keyOf(name: string): string {
  return name.toUpperCase() === 'INBOX' ? 'INBOX' : name;
}

/** What a command's last line tells of where the next message of its mailbox will be. */
export function learnDestination(s: TapState, flight: Flight, line: Buffer): void {
  const text = line.toString('latin1');
  const [, validity, last] =
    /\[(?:APPENDUID (\d+) (\d+)|COPYUID (\d+) \S+ (?:[\d:,]*[:,])?(\d+))\]/i
      .exec(text)
      ?.filter((it) => it !== undefined) ?? [];
  const name = flight.destination?.name;
  if (name === undefined) return;
  // Perhaps it put something there: the next one asks.
  if (last === undefined) return void s.destinations.delete(keyOf(name));
  const destination = { name, uidNext: Number(last) + 1, uidValidity: Number(validity) };
  if (s.destinations.size > 64) s.destinations.clear();
  s.destinations.set(keyOf(name), destination);
}
