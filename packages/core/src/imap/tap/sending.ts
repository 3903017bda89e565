/** What the client says: kept until it is answered, and written to the far side as soon as it may be. */
import { becomePlain } from './ending.ts';
import { Flight, gone, isFlight } from './flight.ts';
import type { Piece } from './framing.ts';
import { askDestination, askMap, askTail, learnDestination, MAX_MAP_TRIES } from './questions.ts';
import { names, rest } from './remaining.ts';
import type { TapState } from './state.ts';
import { tellExpunged } from './telling.ts';
import { translateCommand } from './translate.ts';
import { readCommandHead } from './words.ts';

export function said(s: TapState, piece: Piece): void {
  if (s.state === 'plain') return void s.toFar.push(piece.bytes);
  if (s.state === 'over') return;
  const flight = s.saying ?? begin(s, piece);
  if (flight === undefined) return;
  const sync = piece.type === 'line' && piece.literal?.sync === true;
  flight.add({ bytes: piece.bytes, sync, literal: piece.type === 'body' });
  const isDone = flight.row.kind !== 'idle' || flight.segments.length > 1;
  flight.complete = piece.type === 'line' && piece.last && isDone;
  if (flight.complete) s.saying = undefined;
  pump(s);
}

function begin(s: TapState, piece: Piece): Flight | undefined {
  const head = readCommandHead(piece.bytes);
  if (head === undefined) {
    becomePlain(s, 'a command cannot be read', piece.bytes);
    return undefined;
  }
  const flight = new Flight(head);
  s.saying = flight;
  s.waiting.push(flight);
  return flight;
}

/** Writes what may be written. */
export function pump(s: TapState): void {
  while (s.state === 'live') {
    const last = s.flying.findLast(isFlight);
    if (last !== undefined && !last.isSent) {
      send(s, last);
      if (!last.isSent) return;
      continue;
    }
    const next = s.waiting[0];
    if (next === undefined) return;
    // What was under way before is given again one by one.
    const flights = s.flights;
    if (flights.length > 0 && (next.again || flights.some(({ again }) => again))) return;
    if (!start(s, next)) return;
  }
}

/** Puts a command on its way, or answers it. False when it must wait. */
function start(s: TapState, flight: Flight): boolean {
  if (flight.verdict !== undefined && !flight.complete) return false;
  tellExpunged(s);
  if (flight.again && isAnswered(s, flight)) return true;
  const name = flight.words[0]?.value;
  if (flight.again && flight.row.kind === 'fetch') {
    const left = rest(flight, s.mailbox);
    if (left?.type === 'none') return answerNow(s, flight, fetched(flight));
    if (left?.type === 'set') flight.rewritten = flight.withSet(left.set);
  } else if (flight.row.numbers === true && s.mailbox !== undefined && s.mailbox.ghosts.size > 0) {
    const translated = translateCommand(flight, s.mailbox);
    if (translated === undefined) return answerNow(s, flight, gone(flight));
    flight.rewritten = translated;
  }
  watch(s, flight);
  if (['append', 'copy', 'move'].includes(flight.row.kind)) askDestination(s, flight, name);
  s.waiting.shift();
  s.flying.push(flight);
  return true;
}

/** What can be told without running it again. */
function isAnswered(s: TapState, flight: Flight): boolean {
  if (flight.verdict !== undefined) {
    learnDestination(s, flight, Buffer.from(flight.verdict, 'latin1'));
    return answerNow(s, flight, flight.verdict);
  }
  if (flight.row.kind === 'idle' && flight.complete && flight.given > 0) {
    return answerNow(s, flight, `${flight.tag} OK Idle completed.\r\n`);
  }
  return false;
}

function answerNow(s: TapState, flight: Flight, lines: string): true {
  s.waiting = s.waiting.filter((one) => one !== flight);
  s.toClient.say(lines);
  return true;
}

/** Notes what a command says about what can be carried over. */
function watch(s: TapState, flight: Flight): void {
  const text = flight.text;
  if (/CONDSTORE|QRESYNC|MODSEQ|CHANGEDSINCE|UNCHANGEDSINCE/i.test(text)) s.isCondstore = true;
  if (/UNCHANGEDSINCE/i.test(text)) flight.isUncertain = true;
  if (flight.row.kind === 'search' && /\bRETURN \([^)]*\bSAVE\b/i.test(text) && s.mailbox !== undefined) {
    s.mailbox.spoilt = 'a saved search result is gone';
  }
  if (flight.row.kind === 'folder') s.destinations.clear();
  if (flight.row.kind === 'store' && /\.SILENT\b/i.test(text)) doubt(s, flight);
}

/** The client thinks it knows the flags it has set silently. */
function doubt(s: TapState, flight: Flight): void {
  const mailbox = s.mailbox;
  if (mailbox === undefined) return;
  const { view } = mailbox;
  for (let n = 1; n <= view.known; n++) if (names(flight, n, mailbox)) view.doubt(n);
}

/** Writes what may be written of a command that is on its way. */
function send(s: TapState, flight: Flight): void {
  while (flight.sent < flight.segments.length) {
    const at = flight.sent;
    const segment = flight.segments[at] as { bytes: Buffer; sync: boolean; literal: boolean };
    const isLast = flight.complete && at === flight.segments.length - 1;
    if (flight.got < awaited(s, flight, at)) return;
    if (isLast && flight.destination !== undefined && flight.destination.uidNext === undefined) return;
    if (at === 0) tellExpunged(s);
    s.toFar.push(at === 0 ? (flight.rewritten ?? segment.bytes) : segment.bytes);
    flight.sent++;
    flight.begun = true;
    if (isLast) flight.final = true;
    if (!flight.kept) flight.segments[at] = { ...segment, bytes: Buffer.alloc(0) };
    // The map of a mailbox is asked for behind its SELECT, in the same write.
    if (isLast && flight.row.kind === 'select') askMap(s);
  }
}

/** How many `+` stand before a segment. */
function awaited(_s: TapState, flight: Flight, at: number): number {
  let sum = 0;
  for (let n = 0; n < at; n++) if (flight.segments[n]?.sync) sum++;
  return sum;
}

/** Questions that are due, and EXPUNGEs that may be told. */
export function settle(s: TapState): void {
  if (s.state === 'down') return void settleDown(s);
  if (s.state !== 'live') return;
  pump(s);
  const mailbox = s.mailbox;
  const isIdle = s.flying.some((one) => isFlight(one) && (!one.isSent || one.row.kind === 'idle'));
  const isMoving = s.flying.some((one) => isFlight(one) && ['select', 'close', 'unknown'].includes(one.row.kind));
  if (mailbox === undefined || isIdle || isMoving || s.saying !== undefined) return;
  const { view, ghosts } = mailbox;
  if (ghosts.size > 0 || s.flying.some((one) => !isFlight(one))) return;
  if (mailbox.mapTries >= MAX_MAP_TRIES) return;
  if (!mailbox.isMapped && view.known === 0) askMap(s);
  else if (mailbox.isMapped && view.known < view.count) askTail(s, mailbox);
}

/** LOGOUT needs no far side. */
function settleDown(s: TapState): void {
  const [first] = s.waiting;
  if (first?.row.kind !== 'logout' || !first.complete || s.open !== undefined) return;
  s.toClient.say(`* BYE Logging out\r\n${first.tag} OK Logout completed.\r\n`);
  s.state = 'over';
  s.end = { why: 'logged out' };
}

function fetched(flight: Flight): string {
  return flight.gone ? gone(flight) : `${flight.tag} OK Fetch completed.\r\n`;
}
