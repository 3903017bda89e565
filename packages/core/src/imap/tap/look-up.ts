/**
 * What became of commands that must not run twice: they are looked for where they lead, behind what was there before them. The old session
 * is over by then. Servers answer in order: what was not done leaves all behind it undone.
 */
import { type Flight, gone } from './flight.ts';
import { allOf, listed } from './fresh.ts';
import { MAX_CANDIDATES } from './limits.ts';
import type { Mailbox } from './mailbox.ts';
import type { Answer, Question } from './question.ts';
import { formatSet } from './sets.ts';
import { quoted } from './words.ts';

type Looking<T> = Generator<readonly Question[], T, readonly Answer[]>;

interface LookUpOptions {
  readonly flights: readonly Flight[];
  readonly mailbox: Mailbox | undefined;
  readonly has: (capability: string) => boolean;
}

/** Writes verdicts into the flights. What cannot be found out is said, and holds up nothing else. */
export function* lookUp(o: LookUpOptions): Looking<void> {
  const used = new Set<string>();
  let isLooking = true;
  let hasLooked = false;
  for (const flight of o.flights) {
    if (flight.verdict !== undefined) continue;
    const isOnce = ['append', 'copy', 'move'].includes(flight.row.kind);
    if (flight.isUncertain && flight.final) {
      flight.verdict = unknown(flight);
      continue;
    }
    if (!flight.kept && flight.begun && !flight.final) {
      flight.verdict = `${flight.tag} NO [UNAVAILABLE] The line was lost in the middle of it; it was not stored\r\n`;
    }
    if (!isOnce || !flight.final || !isLooking) continue;
    hasLooked = true;
    const result = yield* flight.row.kind === 'append' ? appended(flight, o, used) : copied(flight, o, used);
    if (result === 'undone') {
      flight.final = false;
      isLooking = false;
    } else if (result === 'unknown') flight.verdict = unknown(flight);
    else flight.verdict = result === 'gone' ? gone(flight) : result.told;
  }
  if (hasLooked) yield ['CLOSE'];
}

type Found = 'unknown' | 'undone' | 'gone' | { readonly told: string };

/** RFC 5530 §3: a failure that says nothing of the command itself. */
function unknown(flight: Flight): string {
  const words = 'The line was lost under it and it cannot be known what became of it; look before you repeat it';
  return `${flight.tag} NO [UNAVAILABLE] ${words}\r\n`;
}

/** Selects a mailbox to read it, and tells which UIDs are there from `from` on. `absent`: there is no such mailbox. */
function* examine(
  name: string,
  from: number,
  o: LookUpOptions,
): Looking<{ validity: number; uids: number[] } | 'absent'> {
  const map = o.has('ESEARCH') ? `UID SEARCH RETURN (ALL) UID ${from}:*` : `UID SEARCH UID ${from}:*`;
  const [selected] = yield [`EXAMINE ${quoted(name)}`, map];
  if (selected?.status !== 'OK') return 'absent';
  const text = selected.responses.map((response) => response.toString('latin1')).join('');
  const validity = Number(/\[UIDVALIDITY (\d+)\]/i.exec(text)?.[1] ?? 0);
  const line =
    selected.responses.map((response) => response.toString('latin1')).find((it) => /^\* E?SEARCH/i.test(it)) ?? '';
  const uids = (/^\* ESEARCH/i.test(line) ? allOf(line) : listed(line)) ?? [];
  return { validity, uids: uids.filter((uid) => uid >= from) };
}

function* appended(flight: Flight, o: LookUpOptions, used: Set<string>): Looking<Found> {
  const { destination } = flight;
  const message = messageOf(flight);
  if (destination?.uidNext === undefined || message === undefined) return 'unknown';
  const there = yield* examine(destination.name, Math.max(1, destination.uidNext), o);
  if (there === 'absent') return destination.uidNext === 0 ? 'undone' : 'unknown';
  if (destination.uidNext > 0 && there.validity !== destination.uidValidity) return 'unknown';
  const candidates = there.uids.filter((uid) => !used.has(`${destination.name}\0${uid}`));
  if (candidates.length === 0) return 'undone';
  if (candidates.length > MAX_CANDIDATES) return 'unknown';
  const [sizes] = yield [`UID FETCH ${formatSet(candidates)} (RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])`];
  const id = /^message-id:\s*(<[^>\r\n]*>)/im.exec(message.subarray(0, 65_536).toString('latin1'))?.[1];
  let isDoubtful = false;
  for (const response of sizes?.responses ?? []) {
    const text = response.toString('latin1');
    const uid = Number(/\bUID (\d+)/i.exec(text)?.[1] ?? 0);
    if (!candidates.includes(uid)) continue;
    const size = Number(/RFC822\.SIZE (\d+)/i.exec(text)?.[1] ?? -1);
    const isSameId = id !== undefined && text.includes(id);
    if (size !== message.length && size !== crlfLength(message) && !isSameId) continue;
    const [bodies] = yield [`UID FETCH ${uid} (BODY.PEEK[])`];
    const body = bodies?.responses.map(literalOf).find((it) => it !== undefined);
    if (body !== undefined && unified(body).equals(unified(message))) {
      used.add(`${destination.name}\0${uid}`);
      const code = o.has('UIDPLUS') ? `[APPENDUID ${there.validity} ${uid}] ` : '';
      return { told: `${flight.tag} OK ${code}Append completed.\r\n` };
    }
    // Another message may be as long; one of the same name may be this one, changed by the server.
    isDoubtful ||= isSameId || id === undefined;
  }
  return isDoubtful ? 'unknown' : 'undone';
}

/** The message an APPEND carries; undefined when it carries it in another way than one literal (MULTIAPPEND, CATENATE). */
function messageOf(flight: Flight): Buffer | undefined {
  if (!flight.kept || flight.segments.filter(({ literal }) => !literal).length !== 2) return undefined;
  if (/\b(?:CATENATE|UTF8) \(/i.test(flight.text)) return undefined;
  return Buffer.concat(flight.segments.filter(({ literal }) => literal).map(({ bytes }) => bytes));
}

function crlfLength(bytes: Buffer): number {
  let length = bytes.length;
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) if (bytes[at - 1] !== 13) length++;
  return length;
}

/** Line ends made one: a store may keep LF and give CRLF. */
function unified(bytes: Buffer): Buffer {
  return Buffer.from(bytes.toString('latin1').replaceAll('\r\n', '\n'), 'latin1');
}

/** The first literal of a whole response. */
function literalOf(response: Buffer): Buffer | undefined {
  const [head, size] = /^[^\r\n]*\{(\d+)\}\r?\n/.exec(response.toString('latin1')) ?? [];
  return head === undefined ? undefined : response.subarray(head.length, head.length + Number(size));
}

function* copied(flight: Flight, o: LookUpOptions, used: Set<string>): Looking<Found> {
  const { destination, sources } = flight;
  const { mailbox } = o;
  if (destination?.uidNext === undefined || sources === undefined || mailbox === undefined) return 'unknown';
  if (sources.length === 0) return 'undone';
  const there = yield* examine(destination.name, Math.max(1, destination.uidNext), o);
  if (there === 'absent') return destination.uidNext === 0 ? 'undone' : 'unknown';
  if (destination.uidNext > 0 && there.validity !== destination.uidValidity) return 'unknown';
  const candidates = there.uids.filter((uid) => !used.has(`${destination.name}\0${uid}`));
  if (candidates.length > MAX_CANDIDATES || sources.length > MAX_CANDIDATES) return 'unknown';
  const copies = yield* signatures(candidates);
  const source = yield* examine(mailbox.name, 1, o);
  if (source === 'absent' || String(source.validity) !== mailbox.uidValidity) return 'unknown';
  const left = sources.filter((uid) => source.uids.includes(uid));
  const originals = yield* signatures(left);
  if (originals === undefined || copies === undefined) return 'unknown';
  const uids = matched(flight, { sources, left, originals, copies, candidates });
  if (typeof uids === 'string') return uids;
  for (const uid of uids) used.add(`${destination.name}\0${uid}`);
  return { told: copyTold(flight, o.has('UIDPLUS') ? { validity: there.validity, sources, uids } : undefined) };
}

/** Size, date and Message-ID of messages, by UID. Undefined when one is not told. */
function* signatures(uids: readonly number[]): Looking<Map<number, string> | undefined> {
  const found = new Map<number, string>();
  if (uids.length === 0) return found;
  const [answer] = yield [
    `UID FETCH ${formatSet(uids)} (RFC822.SIZE INTERNALDATE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID DATE)])`,
  ];
  for (const response of answer?.responses ?? []) {
    const text = response.toString('latin1');
    const uid = Number(/\bUID (\d+)/i.exec(text)?.[1] ?? 0);
    const size = /RFC822\.SIZE (\d+)/i.exec(text)?.[1];
    const date = /INTERNALDATE "([^"]*)"/i.exec(text)?.[1];
    if (uids.includes(uid)) found.set(uid, `${size} ${date} ${literalOf(response)?.toString('latin1')}`);
  }
  return found.size === uids.length ? found : undefined;
}

/** The copies of all sources, or that there are none. Some of them, or sources that are gone, leave it unknown. */
function matched(
  flight: Flight,
  o: {
    sources: readonly number[];
    left: readonly number[];
    originals: Map<number, string>;
    copies: Map<number, string>;
    candidates: readonly number[];
  },
): 'unknown' | 'undone' | 'gone' | number[] {
  const { sources, left, originals, copies, candidates } = o;
  if (flight.row.kind === 'move') {
    if (left.length === 0 && candidates.length === sources.length) return [...candidates];
    if (left.length === 0 && candidates.length === 0) return 'gone';
    return left.length === sources.length && candidates.length === 0 ? 'undone' : 'unknown';
  }
  if (candidates.length === 0) return 'undone';
  if (left.length < sources.length) return 'unknown';
  const wanted = sources.map((uid) => originals.get(uid));
  for (let at = 0; at + wanted.length <= candidates.length; at++) {
    const run = candidates.slice(at, at + wanted.length);
    if (run.every((uid, index) => copies.get(uid) === wanted[index])) return run;
  }
  const isAny = candidates.some((uid) => wanted.includes(copies.get(uid)));
  return isAny ? 'unknown' : 'undone';
}

function copyTold(
  flight: Flight,
  uids: { validity: number; sources: readonly number[]; uids: readonly number[] } | undefined,
): string {
  const code =
    uids === undefined ? '' : `[COPYUID ${uids.validity} ${formatSet(uids.sources)} ${formatSet(uids.uids)}] `;
  if (flight.isCopied) return `${flight.tag} OK Move completed.\r\n`;
  if (flight.row.kind === 'copy') return `${flight.tag} OK ${code}Copy completed.\r\n`;
  return `${code === '' ? '' : `* OK ${code}Moved UIDs.\r\n`}${flight.tag} OK Move completed.\r\n`;
}
