/** A new far session is brought to where the client believes it is: questions, then what was cut, then what is new. Nothing of it is shown. */
import { compare } from './compare.ts';
import type { Crossing, CrossingResult } from './crossing.ts';
import { finish } from './ending.ts';
import type { Piece } from './framing.ts';
import type { Fresh } from './fresh.ts';
import { untagged } from './hearing.ts';
import { MAX_OWN_ANSWER } from './limits.ts';
import type { Mailbox } from './mailbox.ts';
import type { Question } from './question.ts';
import { pump } from './sending.ts';
import type { Resumed, Route, TapState } from './state.ts';
import { mayTellExpunge, tailOf, tellExpunged, track } from './telling.ts';
import { type ResponseHead, readResponseHead } from './words.ts';

/** Goes on with the crossing, given the answers to its last questions. */
export function cross(s: TapState, answers: Parameters<Crossing['next']>[0] | undefined): void {
  const step = answers === undefined ? s.crossing?.next([]) : s.crossing?.next(answers);
  if (step === undefined) return;
  if (step.done === true) return void crossed(s, step.value);
  s.asked = step.value.map((question: Question) => {
    const tag = s.newTag();
    s.toFar.say(`${tag} ${question}\r\n`);
    return { tag };
  });
  s.responses = [];
  s.gathered = 0;
  if (s.asked.length === 0) cross(s, []);
}

export function firstOfCrossing(s: TapState, line: Buffer, isWhole: boolean): Route {
  const head = readResponseHead(line);
  if (head.type === 'untagged' && head.word === 'BYE') return 'drop';
  if (s.resumed !== undefined) return firstOfResumed(s, line, head, isWhole);
  if (head.type !== 'tagged') return 'ask';
  const question = s.asked.find(({ tag }) => tag === head.tag);
  if (question === undefined) return 'drop';
  question.end = { status: head.status, line: line.toString('latin1') };
  if (s.asked.every(({ end }) => end !== undefined)) answered(s);
  return 'drop';
}

function answered(s: TapState): void {
  const responses = s.responses;
  const answers = s.asked.map(({ end }) => ({ responses, status: end?.status ?? 'BAD', line: end?.line ?? '' }));
  s.asked = [];
  cross(s, answers);
}

export function gather(s: TapState, bytes: Buffer, piece: Piece): void {
  s.parts.push(Buffer.from(bytes));
  s.gathered += bytes.length;
  if (s.gathered > MAX_OWN_ANSWER) return void finish(s, 'the far side answers too much');
  if (piece.type !== 'line' || !piece.last) return;
  s.responses.push(Buffer.concat(s.parts));
  s.parts = [];
}

/** The new session stands where the old one stood: first what was cut goes on, then what is new is told. */
function crossed(s: TapState, result: CrossingResult): void {
  if (result.type === 'untrue') return void finish(s, result.reason);
  s.fresh = result.fresh;
  if (s.open === undefined) return void restored(s);
  const { flight, uid } = s.open;
  const n = (result.fresh?.uids.indexOf(uid) ?? -1) + 1;
  const items = flight?.segments.length === 1 ? flight.text.slice(flight.words[0]?.to).trim() : undefined;
  if (flight === undefined || items === undefined || n === 0) return void finish(s, 'a message is gone');
  const tag = s.newTag();
  s.resumed = { tag, n, literal: 0, skip: 0, isMatched: false };
  s.toFar.say(`${tag} ${flight.name} ${flight.name.startsWith('UID ') ? uid : n} ${items}\r\n`);
}

function firstOfResumed(s: TapState, line: Buffer, head: ResponseHead, isWhole: boolean): Route {
  const resumed = s.resumed as Resumed;
  if (head.type === 'tagged') {
    if (head.tag !== resumed.tag) return 'drop';
    s.resumed = undefined;
    if (s.open === undefined) restored(s);
    else finish(s, 'a message cannot be had again');
    return 'drop';
  }
  const isIt = head.type === 'numbered' && head.word === 'FETCH' && head.n === resumed.n && !isWhole;
  if (isIt && !resumed.isMatched) return 'resume';
  if (isWhole) s.aside.push(Buffer.from(line));
  return 'drop';
}

/** Passes of a response what the client has not had of it. */
export function goOn(s: TapState, piece: Piece): void {
  const resumed = s.resumed;
  const open = s.open;
  if (resumed === undefined || open === undefined) return;
  if (piece.type === 'body') {
    if (!resumed.isMatched) return;
    const skipped = Math.min(resumed.skip, piece.bytes.length);
    resumed.skip -= skipped;
    const bytes = piece.bytes.subarray(skipped);
    s.toClient.push(bytes);
    open.octets += bytes.length;
    return;
  }
  if (resumed.isMatched) {
    s.toClient.push(piece.bytes);
    return void track(s, piece);
  }
  resumed.literal++;
  if (piece.last) return void finish(s, 'a message is not what it was');
  if (resumed.literal < open.literal) return;
  if (tailOf(piece.bytes) !== open.tail) return void finish(s, 'a message is not what it was');
  resumed.isMatched = true;
  resumed.skip = open.octets;
}

/** Tells what has changed, as far as it may be told now, and goes on. */
function restored(s: TapState): void {
  const fresh = s.fresh;
  s.fresh = undefined;
  s.crossing = undefined;
  s.state = 'live';
  const reason = fresh === undefined || s.mailbox === undefined ? undefined : news(s, s.mailbox, fresh);
  if (reason !== undefined) return void finish(s, reason);
  s.isCarried = true;
  for (const line of s.aside.splice(0)) {
    const told = untagged(s, line, readResponseHead(line), { flight: undefined, isWhole: true });
    if (told !== undefined) s.toClient.push(told);
  }
  pump(s);
}

function news(s: TapState, mailbox: Mailbox, fresh: Fresh): string | undefined {
  const difference = compare(mailbox, fresh);
  if (difference.type === 'untrue') return difference.reason;
  const { view, ghosts } = mailbox;
  const { gone, extra, unnamed } = difference;
  const tail = view.count - view.known;
  ghosts.clear();
  for (const n of gone) ghosts.add(n);
  const holes = Math.max(0, tail - extra.length - unnamed);
  if (holes > 0 && !mayTellExpunge(s)) return 'a message is gone that never had a name';
  if (!view.name(extra.slice(0, tail))) return 'the mailbox is not what it was';
  for (let hole = 0; hole < holes; hole++) {
    s.toClient.say(`* ${view.count} EXPUNGE\r\n`);
    view.expunge(view.count);
  }
  tellExpunged(s);
  const count = view.count + Math.max(0, extra.length + unnamed - tail);
  if (count > view.count) {
    view.exists(count);
    s.toClient.say(`* ${view.count} EXISTS\r\n* ${fresh.recent} RECENT\r\n`);
  }
  if (!view.name(extra.slice(tail))) return 'the mailbox is not what it was';
  mailbox.isMapped = true;
  for (const [far, { flags, text }] of fresh.flags) {
    const n = ghosts.toClient(far);
    if (!view.isNews(n, flags)) continue;
    s.toClient.say(`* ${n} FETCH (${text})\r\n`);
    view.tell(n, flags);
  }
  return undefined;
}
