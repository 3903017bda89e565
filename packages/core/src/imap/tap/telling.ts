/** What of a response the client has been given, and when it may be told that messages are gone (RFC 3501 §7.4.1). */
import type { Flight } from './flight.ts';
import type { Piece } from './framing.ts';
import { MAX_HELD_ANSWER } from './limits.ts';
import type { TapState } from './state.ts';

/** EXPUNGEs that could not be told so far, highest first, when a command runs that allows it and none that forbids it. */
export function tellExpunged(s: TapState): void {
  const mailbox = s.mailbox;
  if (mailbox === undefined || mailbox.ghosts.size === 0 || !mayTellExpunge(s)) return;
  const { view, ghosts } = mailbox;
  const numbers = [...ghosts.numbers].reverse();
  if (s.enabled.has('QRESYNC') && numbers.every((n) => view.uid(n) > 0)) {
    s.toClient.say(
      `* VANISHED ${numbers
        .map((n) => view.uid(n))
        .reverse()
        .join(',')}\r\n`,
    );
  } else for (const n of numbers) s.toClient.say(`* ${n} EXPUNGE\r\n`);
  for (const n of numbers) view.expunge(n);
  ghosts.clear();
}

export function mayTellExpunge(s: TapState): boolean {
  if (s.open !== undefined || !s.farFramer.whole) return false;
  const flights = [...s.flights, ...s.waiting];
  const isMoving = flights.some(({ row }) => row.numbers === true || row.kind === 'select' || row.kind === 'close');
  return flights.length > 0 && !isMoving;
}

/** Follows a response that is given to the client as it comes. */
export function track(s: TapState, piece: Piece): void {
  const whole = piece.type === 'line' && piece.last;
  if (s.open === undefined) {
    if (!whole && piece.type === 'line' && piece.first)
      s.open = { flight: undefined, uid: 0, literal: 0, tail: '', octets: 0 };
    else if (!whole) return;
  }
  const open = s.open;
  if (open === undefined) return;
  if (whole) {
    if (open.flight !== undefined && open.uid > 0) open.flight.delivered.push(open.uid);
    s.open = undefined;
  } else if (piece.type === 'line') {
    open.literal++;
    open.octets = 0;
    open.tail = tailOf(piece.bytes);
  } else open.octets += piece.bytes.length;
}

export function keepPiece(s: TapState, flight: Flight, piece: Piece): void {
  if (piece.type === 'line' && piece.first) return;
  keepBytes(s, flight, piece.bytes);
}

export function keepBytes(s: TapState, flight: Flight, bytes: Buffer): void {
  flight.answer.push(Buffer.from(bytes));
  flight.answerSize += bytes.length;
  if (flight.answerSize <= MAX_HELD_ANSWER) return;
  // From here on it is told as it comes; a death in the middle of it ends the session.
  for (const part of flight.answer) s.toClient.push(part);
  flight.answer = [];
  flight.spilt = true;
  flight.spoilt = 'an answer was given in part';
  if (!s.farFramer.whole) s.open = { flight: undefined, uid: 0, literal: 0, tail: '', octets: 0 };
  s.route = 'pass';
}

/** What the end of a line announces: the item and its size. */
export function tailOf(line: Buffer): string {
  const end = line.toString('latin1', Math.max(0, line.length - 1000));
  return /(?:[A-Z0-9.]+(?:\[[^\]]*\])?(?:<\d+>)? )?~?\{\d+\}\r?\n$/i.exec(end)?.[0] ?? '';
}
