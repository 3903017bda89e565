/**
 * A session between a client and a far imapd that may die and be opened anew. While nothing is carried over, what comes out is what went
 * in. After a death the client is told only what is true, and only when IMAP allows it; what cannot be made true ends the session.
 */
import { crossing } from './crossing.ts';
import { becomePlain, finish, obstacle, passHeld } from './ending.ts';
import { isFlight } from './flight.ts';
import type { Piece } from './framing.ts';
import { firstLine } from './hearing.ts';
import { cross, firstOfCrossing, gather, goOn } from './restoring.ts';
import { said, settle } from './sending.ts';
import { equal, type Phase, type TapActions, type TapOptions, TapState } from './state.ts';
import { keepPiece, track } from './telling.ts';

export type { TapActions, TapOptions } from './state.ts';

/** See the file's law. Sans-IO: bytes in, bytes out; a caller opens far sessions and keeps time. */
export class Tap {
  readonly #s: TapState;

  constructor(o: TapOptions) {
    this.#s = new TapState(o);
  }

  /** Nothing is tracked any more: a lost link ends the session. */
  get isPlain(): boolean {
    return this.#s.state === 'plain';
  }

  /** The far side says that it ends, or was asked to: its end is no death. */
  get isLeaving(): boolean {
    return this.#s.isLeaving || this.isPlain || this.#s.state === 'over';
  }

  /** Octets of the client that wait for the far side. */
  get waiting(): number {
    return this.#s.waiting.reduce((sum, flight) => sum + flight.waiting, this.#s.saying?.waiting ?? 0);
  }

  /** Whether the old far session must be proven over before anything is given again. */
  get needsFence(): boolean {
    const { flying, waiting } = this.#s;
    return [...flying, ...waiting].some((one) => isFlight(one) && one.begun && one.row.effect === true);
  }

  /** The client has said something. */
  fromClient(chunk: Buffer): TapActions {
    const s = this.#s;
    if (s.state === 'plain') s.toFar.push(chunk);
    else if (s.state !== 'over') {
      s.clientFramer.push(chunk, (piece) => said(s, piece));
      settle(s);
      if (s.clientFramer.tooLong) becomePlain(s, 'a line of the client is too long to be tracked');
      if (this.isPlain) passHeld(s);
    }
    return s.actions();
  }

  /** The far side has said something. */
  fromFar(chunk: Buffer): TapActions {
    const s = this.#s;
    if (s.state === 'plain') {
      s.toClient.push(chunk);
      // Whether a BYE may follow is all that is asked of it.
      s.farFramer.push(chunk, () => {});
    } else if (s.state !== 'over') {
      s.farFramer.push(chunk, (piece) => heard(s, piece));
      settle(s);
      if (s.farFramer.tooLong) becomePlain(s, 'a line of the far side is too long to be tracked');
      if (this.isPlain) passHeld(s);
    }
    return s.actions();
  }

  /** The far session is gone; `reason` is what a client hears when that cannot be mended. */
  lost(reason: string): TapActions {
    const s = this.#s;
    if (s.state === 'over') return s.actions();
    const flights = [...s.flights, ...s.waiting];
    const why = s.state === 'plain' ? reason : obstacle(s, flights, reason);
    if (why !== undefined) {
      finish(s, why);
      return s.actions();
    }
    for (const flight of s.flights) flight.rewind();
    s.flying = [];
    s.waiting = flights;
    s.forgetFar();
    s.state = 'down';
    settle(s);
    return s.actions();
  }

  /** A new far session has greeted; `isFenced`: the one before is certainly over. */
  reopened(o: { capabilities: readonly string[]; isFenced: boolean }): TapActions {
    const s = this.#s;
    if (s.state !== 'down') return s.actions();
    const missing = s.offered.find((name) => !o.capabilities.some((other) => equal(name, other)));
    if (missing !== undefined) finish(s, `the far side no longer has ${missing}`);
    else if (this.needsFence && !o.isFenced) finish(s, 'it cannot be known what became of a command');
    else {
      s.capabilities = o.capabilities;
      s.state = 'crossing';
      s.crossing = crossing({
        flights: s.waiting,
        mailbox: s.mailbox,
        enabled: [...s.enabled],
        isCondstore: s.isCondstore,
        has: (name) => s.has(name),
      });
      cross(s, undefined);
    }
    return s.actions();
  }

  /** The session ends from here: `* BYE` when it can be said. */
  close(reason: string): TapActions {
    finish(this.#s, reason);
    return this.#s.actions();
  }
}

/** A piece of the far side: given on, kept with its answer, taken for ours, or gone on with. */
function heard(s: TapState, piece: Piece): void {
  if (s.state === 'over') return;
  if (s.state === 'plain') return void s.toClient.push(piece.bytes);
  const isFirst = piece.type === 'line' && piece.first;
  if (isFirst) {
    const read = s.state === 'crossing' ? firstOfCrossing : firstLine;
    s.route = read(s, piece.bytes, piece.last);
    // Its first line has been dealt with, and tracking may have ended by it.
    if ((s.state as Phase) === 'plain') return;
  }
  const { route } = s;
  if (route === 'drop') return;
  if (route === 'ask') return void gather(s, piece.bytes, piece);
  if (route === 'resume') return void goOn(s, piece);
  if (route !== 'pass') return void keepPiece(s, route.flight, piece);
  if (!isFirst) s.toClient.push(piece.bytes);
  track(s, piece);
}
