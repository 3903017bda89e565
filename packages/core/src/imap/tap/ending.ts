/** The end of tracking, and of the session: bytes pass on as they are, or the client hears why it is over. */
import { responseText } from '../gate.ts';
import type { Flight } from './flight.ts';
import type { TapState } from './state.ts';

export function becomePlain(s: TapState, why: string, said?: Buffer): void {
  if (s.state === 'plain' || s.state === 'over') return;
  const isClean = s.state === 'live' && (s.mailbox?.ghosts.size ?? 0) === 0;
  if (!isClean) return void finish(s, why);
  for (const one of s.flights) for (const bytes of one.answer) s.toClient.push(bytes);
  const unsent = [...s.flights, ...s.waiting].flatMap((one) => one.segments.slice(one.sent));
  s.state = 'plain';
  for (const { bytes } of unsent) s.toFar.push(bytes);
  if (said !== undefined) s.toFar.push(said);
  s.flying = [];
  s.waiting = [];
  s.saying = undefined;
  s.mailbox = undefined;
}

/** What was kept of unfinished lines, once all that came before it has passed. */
export function passHeld(s: TapState): void {
  s.toFar.push(s.clientFramer.rest());
  s.toClient.push(s.farFramer.held);
}

export function finish(s: TapState, reason: string): void {
  if (s.state === 'over') return;
  if (s.atLineEnd) s.toClient.say(`* BYE [UNAVAILABLE] ${responseText(reason)}\r\n`);
  s.state = 'over';
  s.end = { why: reason };
}

/** Why this cannot be carried over; undefined when it can. */
export function obstacle(s: TapState, flights: readonly Flight[], reason: string): string | undefined {
  const mailbox = s.mailbox;
  if (flights.some((one) => one.begun && one.row.kind === 'unknown')) return reason;
  const spoilt = flights.find((one) => one.begun && one.spoilt !== undefined);
  if (spoilt !== undefined) return `${reason}; ${spoilt.spoilt}`;
  if (s.open !== undefined && (s.open.flight === undefined || s.open.uid === 0)) return reason;
  const isLeaving = flights[0]?.row.kind === 'select';
  if (mailbox === undefined || isLeaving) return undefined;
  if (mailbox.spoilt !== undefined) return `${reason}; ${mailbox.spoilt}`;
  // Of messages that were told by their number only, nothing is known that could turn out wrong.
  const isKnown = mailbox.isMapped || (mailbox.view.known === 0 && !mailbox.isTouched);
  if (!isKnown || mailbox.uidValidity === undefined) return reason;
  return undefined;
}
