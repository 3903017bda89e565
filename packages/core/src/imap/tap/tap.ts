/**
 * A session between a client and a far imapd that may die and be opened anew. While nothing is carried over, what comes out is what went
 * in. After a death the client is told only what is true, and only when IMAP allows it; what cannot be made true ends the session.
 */
import { responseText } from '../gate.ts';
import { parseStatus } from '../response.ts';
import { compare } from './compare.ts';
import { type Crossing, type CrossingResult, crossing, type Question } from './crossing.ts';
import { type Destination, Flight, isFlight, type Own } from './flight.ts';
import { commandAnnounces, type Piece, responseAnnounces, StreamFramer } from './framing.ts';
import { allOf, type Fresh, listed } from './fresh.ts';
import { MAX_HELD_ANSWER, MAX_OWN_ANSWER, MAX_TRACKED_COMMAND_LINE, MAX_TRACKED_RESPONSE_LINE } from './limits.ts';
import { Mailbox } from './mailbox.ts';
import { Out } from './out.ts';
import { names, rest } from './remaining.ts';
import { parseSet } from './sets.ts';
import { translateAnswer, translateCommand } from './translate.ts';
import { fetchFlags, fetchUid, quoted, type ResponseHead, readCommandHead, readResponseHead } from './words.ts';

/** What is to be done after an input. */
export interface TapActions {
  readonly toClient: readonly Buffer[];
  readonly toFar: readonly Buffer[];
  /** The session is over: close both sides behind what is written. */
  readonly end?: { readonly why: string };
  /** The client's session stands on the new far one. */
  readonly carried?: true;
}

/** What a {@link Tap} is made with. */
export interface TapOptions {
  /** Of the far side, as told at login. */
  readonly capabilities: readonly string[];
  /** What begins the tags of our own questions; no client uses it. Letters and digits. */
  readonly prefix: string;
}

/** What is given to the client of a response, when not all of it is: after a death it goes on at that octet. */
export interface Open {
  readonly flight: Flight | undefined;
  readonly uid: number;
  /** Which of its literals, from 1 on; 0: none was begun. */
  literal: number;
  /** The end of the line that announces it, and octets of it given. */
  tail: string;
  octets: number;
}

/** A response that is asked for again to go on with it. */
interface Resumed {
  readonly tag: string;
  readonly n: number;
  literal: number;
  skip: number;
  isMatched: boolean;
}

/** How often a mailbox is asked for its UIDs when messages came or went under the answer. */
const MAX_MAP_TRIES = 5;

type Route = 'pass' | 'drop' | 'ask' | 'resume' | { readonly flight: Flight };
/** Where it stands. `plain`: bytes pass and nothing is tracked. */
type State = 'live' | 'down' | 'crossing' | 'plain' | 'over';

/** See the file's law. Sans-IO: bytes in, bytes out; a caller opens far sessions and keeps time. */
export class Tap {
  readonly #o: TapOptions;
  #state: State = 'live';
  readonly #fromClient: StreamFramer = new StreamFramer({
    maxLine: MAX_TRACKED_COMMAND_LINE,
    announces: commandAnnounces,
  });
  readonly #fromFar: StreamFramer = new StreamFramer({
    maxLine: MAX_TRACKED_RESPONSE_LINE,
    announces: responseAnnounces,
  });
  readonly #toClient = new Out();
  readonly #toFar = new Out();
  #capabilities: readonly string[];
  #end: { why: string } | undefined;
  #isCarried = false;
  #isLeaving = false;
  /** Over there, in the order they were given. */
  #flying: (Flight | Own)[] = [];
  /** Not begun over there. */
  #waiting: Flight[] = [];
  /** The one the client is saying. */
  #saying: Flight | undefined;
  #route: Route = 'pass';
  #open: Open | undefined;
  #mailbox: Mailbox | undefined;
  /** What SELECT's answer has told so far. */
  #coming: Mailbox | undefined;
  readonly #enabled = new Set<string>();
  #isCondstore = false;
  readonly #destinations = new Map<string, Destination>();
  #count = 0;
  #crossing: Crossing | undefined;
  #asked: { tag: string; end?: { status: string; line: string } }[] = [];
  /** Answers to all that was asked: they may come in another order. */
  #responses: Buffer[] = [];
  #gathered = 0;
  #parts: Buffer[] = [];
  /** Untagged responses that came in the middle of a response that is gone on with. */
  #aside: Buffer[] = [];
  #resumed: Resumed | undefined;
  #fresh: Fresh | undefined;

  constructor(o: TapOptions) {
    this.#o = o;
    this.#capabilities = o.capabilities;
  }

  /** Nothing is tracked any more: a lost link ends the session. */
  get isPlain(): boolean {
    return this.#state === 'plain';
  }

  /** The far side says that it ends, or was asked to: its end is no death. */
  get isLeaving(): boolean {
    return this.#isLeaving || this.#state === 'plain' || this.#state === 'over';
  }

  /** Octets of the client that wait for the far side. */
  get waiting(): number {
    return this.#waiting.reduce((sum, flight) => sum + flight.waiting, this.#saying?.waiting ?? 0);
  }

  /** Whether a line of ours may be put behind what the client has been given. */
  get atLineEnd(): boolean {
    if (this.#state === 'plain') return this.#fromFar.atBoundary;
    return this.#open === undefined && this.#fromFar.whole;
  }

  /** The client has said something. */
  fromClient(chunk: Buffer): TapActions {
    if (this.#state === 'plain') this.#toFar.push(chunk);
    else if (this.#state !== 'over') {
      this.#fromClient.push(chunk, (piece) => this.#said(piece));
      this.#settle();
      if (this.#fromClient.tooLong) this.#becomePlain('a line of the client is too long to be tracked');
      if (this.isPlain) this.#passHeld();
    }
    return this.#actions();
  }

  /** The far side has said something. */
  fromFar(chunk: Buffer): TapActions {
    if (this.#state === 'plain') {
      this.#toClient.push(chunk);
      // Whether a BYE may follow is all that is asked of it.
      this.#fromFar.push(chunk, () => {});
    } else if (this.#state !== 'over') {
      this.#fromFar.push(chunk, (piece) => this.#heard(piece));
      this.#settle();
      if (this.#fromFar.tooLong) this.#becomePlain('a line of the far side is too long to be tracked');
      if (this.isPlain) this.#passHeld();
    }
    return this.#actions();
  }

  /** The far session is gone; `reason` is what a client hears when that cannot be mended. */
  lost(reason: string): TapActions {
    if (this.#state === 'over') return this.#actions();
    const flights = [...this.#flying.filter(isFlight), ...this.#waiting];
    const obstacle = this.#state === 'plain' ? reason : this.#obstacle(flights, reason);
    this.#crossing = undefined;
    this.#asked = [];
    this.#aside = [];
    this.#parts = [];
    this.#resumed = undefined;
    this.#coming = undefined;
    if (obstacle !== undefined) {
      this.#finish(obstacle);
      return this.#actions();
    }
    this.#fromFar.reset();
    this.#route = 'pass';
    for (const flight of this.#flying.filter(isFlight)) flight.rewind();
    this.#flying = [];
    this.#waiting = flights;
    this.#state = 'down';
    this.#settle();
    return this.#actions();
  }

  /** Whether the old far session must be proven over before anything is given again. */
  get needsFence(): boolean {
    return [...this.#flying, ...this.#waiting].some((one) => isFlight(one) && one.begun && one.row.effect === true);
  }

  /** A new far session has greeted; `isFenced`: the one before is certainly over. */
  reopened(o: { capabilities: readonly string[]; isFenced: boolean }): TapActions {
    if (this.#state !== 'down') return this.#actions();
    const missing = this.#o.capabilities.find((name) => !o.capabilities.some((other) => equal(name, other)));
    if (missing !== undefined) this.#finish(`the far side no longer has ${missing}`);
    else if (this.needsFence && !o.isFenced) this.#finish('it cannot be known what became of a command');
    else {
      this.#capabilities = o.capabilities;
      this.#state = 'crossing';
      this.#crossing = crossing({
        flights: this.#waiting,
        mailbox: this.#mailbox,
        enabled: [...this.#enabled],
        isCondstore: this.#isCondstore,
        has: (name) => this.#has(name),
      });
      this.#cross(undefined);
    }
    return this.#actions();
  }

  /** The session ends from here: `* BYE` when it can be said. */
  close(reason: string): TapActions {
    this.#finish(reason);
    return this.#actions();
  }

  #actions(): TapActions {
    const carried = this.#isCarried;
    this.#isCarried = false;
    return {
      toClient: this.#toClient.take(),
      toFar: this.#toFar.take(),
      ...(this.#end === undefined ? {} : { end: this.#end }),
      ...(carried ? { carried } : {}),
    };
  }

  #has(name: string): boolean {
    return this.#capabilities.some((other) => equal(name, other));
  }

  // What the client says.

  #said(piece: Piece): void {
    if (this.#state === 'plain') return void this.#toFar.push(piece.bytes);
    if (this.#state === 'over') return;
    const flight = this.#saying ?? this.#begin(piece);
    if (flight === undefined) return;
    const sync = piece.type === 'line' && piece.literal?.sync === true;
    flight.add({ bytes: piece.bytes, sync, literal: piece.type === 'body' });
    const isDone = flight.row.kind !== 'idle' || flight.segments.length > 1;
    flight.complete = piece.type === 'line' && piece.last && isDone;
    if (flight.complete) this.#saying = undefined;
    this.#pump();
  }

  #begin(piece: Piece): Flight | undefined {
    const head = readCommandHead(piece.bytes);
    if (head === undefined) {
      this.#becomePlain('a command cannot be read', piece.bytes);
      return undefined;
    }
    const flight = new Flight(head);
    this.#saying = flight;
    this.#waiting.push(flight);
    return flight;
  }

  /** Writes what may be written. */
  #pump(): void {
    while (this.#state === 'live') {
      const last = this.#flying.findLast(isFlight);
      if (last !== undefined && !last.isSent) {
        this.#send(last);
        if (!last.isSent) return;
        continue;
      }
      const next = this.#waiting[0];
      if (next === undefined) return;
      // What was under way before is given again one by one.
      const flights = this.#flying.filter(isFlight);
      if (flights.length > 0 && (next.again || flights.some(({ again }) => again))) return;
      if (!this.#start(next)) return;
    }
  }

  /** Puts a command on its way, or answers it. False when it must wait. */
  #start(flight: Flight): boolean {
    if (flight.verdict !== undefined && !flight.complete) return false;
    this.#tellExpunged();
    if (flight.again && this.#isAnswered(flight)) return true;
    const name = flight.words[0]?.value;
    if (flight.again && flight.row.kind === 'fetch') {
      const left = rest(flight, this.#mailbox);
      if (left?.type === 'none') return this.#answer(flight, fetched(flight));
      if (left?.type === 'set') flight.rewritten = flight.withSet(left.set);
    } else if (flight.row.numbers === true && this.#mailbox !== undefined && this.#mailbox.ghosts.size > 0) {
      const translated = translateCommand(flight, this.#mailbox);
      if (translated === undefined) return this.#answer(flight, gone(flight));
      flight.rewritten = translated;
    }
    this.#watch(flight);
    if (['append', 'copy', 'move'].includes(flight.row.kind)) this.#ask(flight, name);
    this.#waiting.shift();
    this.#flying.push(flight);
    return true;
  }

  /** What can be told without running it again. */
  #isAnswered(flight: Flight): boolean {
    if (flight.verdict !== undefined) return this.#answer(flight, flight.verdict);
    if (flight.row.kind === 'idle' && flight.complete && flight.given > 0) {
      return this.#answer(flight, `${flight.tag} OK Idle completed.\r\n`);
    }
    return false;
  }

  #answer(flight: Flight, lines: string): true {
    this.#waiting = this.#waiting.filter((one) => one !== flight);
    this.#toClient.say(lines);
    return true;
  }

  /** Notes what a command says about what can be carried over. */
  #watch(flight: Flight): void {
    const text = flight.text;
    if (/CONDSTORE|QRESYNC|MODSEQ|CHANGEDSINCE|UNCHANGEDSINCE/i.test(text)) this.#isCondstore = true;
    if (/UNCHANGEDSINCE/i.test(text)) flight.spoilt = 'it cannot be known what a conditional STORE did';
    if (flight.row.kind === 'search' && /\bRETURN \([^)]*\bSAVE\b/i.test(text) && this.#mailbox !== undefined) {
      this.#mailbox.spoilt = 'a saved search result is gone';
    }
    if (flight.row.kind === 'folder') this.#destinations.clear();
    if (flight.row.kind === 'store' && /\.SILENT\b/i.test(text)) this.#doubt(flight);
  }

  /** The client thinks it knows the flags it has set silently. */
  #doubt(flight: Flight): void {
    const mailbox = this.#mailbox;
    if (mailbox === undefined) return;
    const { view } = mailbox;
    for (let n = 1; n <= view.known; n++) if (names(flight, n, mailbox)) view.doubt(n);
  }

  /** Asks what is there before something is put there. */
  #ask(flight: Flight, name: string | undefined): void {
    const at = flight.row.kind === 'append' ? name : flight.words[1]?.value;
    const said = at === undefined ? undefined : quoted(at);
    if (flight.row.kind !== 'append') flight.sources = this.#named(flight);
    if (at === undefined || said === undefined) {
      flight.spoilt = 'it cannot be known what became of a command';
      return;
    }
    const known = this.#destinations.get(at.toUpperCase() === 'INBOX' ? 'INBOX' : at);
    if (flight.destination?.uidNext !== undefined) return;
    flight.destination = known === undefined ? { name: at } : { ...known };
    if (known !== undefined) return;
    const { destination } = flight;
    this.#question(`STATUS ${said} (UIDNEXT UIDVALIDITY)`, {
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
          flight.spoilt = 'it cannot be known what became of a command';
        }
      },
    });
  }

  /** UIDs a COPY or MOVE names; undefined when they cannot be known. */
  #named(flight: Flight): readonly number[] | undefined {
    const mailbox = this.#mailbox;
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

  /** Writes a question of our own, at once: nothing of the client is half said. */
  #question(text: string, o: Pick<Own, 'hear' | 'end'>): string {
    const tag = this.#newTag();
    this.#flying.push({ tag, ...o });
    this.#toFar.say(`${tag} ${text}\r\n`);
    return tag;
  }

  #newTag(): string {
    this.#count++;
    return `${this.#o.prefix}${this.#count}`;
  }

  /** Writes what may be written of a command that is on its way. */
  #send(flight: Flight): void {
    while (flight.sent < flight.segments.length) {
      const at = flight.sent;
      const segment = flight.segments[at] as { bytes: Buffer; sync: boolean; literal: boolean };
      const isLast = flight.complete && at === flight.segments.length - 1;
      if (flight.got < this.#awaited(flight, at)) return;
      if (isLast && flight.destination !== undefined && flight.destination.uidNext === undefined) return;
      if (at === 0) this.#tellExpunged();
      this.#toFar.push(at === 0 ? (flight.rewritten ?? segment.bytes) : segment.bytes);
      flight.sent++;
      flight.begun = true;
      if (isLast) flight.final = true;
      if (!flight.kept) flight.segments[at] = { ...segment, bytes: Buffer.alloc(0) };
      if (isLast) this.#sentWhole(flight);
    }
  }

  /** How many `+` stand before a segment. */
  #awaited(flight: Flight, at: number): number {
    let sum = 0;
    for (let n = 0; n < at; n++) if (flight.segments[n]?.sync) sum++;
    return sum;
  }

  /** The map of a mailbox is asked for behind its SELECT, in the same write. */
  #sentWhole(flight: Flight): void {
    if (flight.row.kind === 'select') this.#askMap();
  }

  #askMap(): void {
    const isExtended = this.#has('ESEARCH');
    let isAnswered = false;
    const tag = this.#question(isExtended ? 'UID SEARCH RETURN (ALL) ALL' : 'UID SEARCH ALL', {
      hear: (line) => {
        const text = line.toString('latin1');
        if (isAnswered || !/^\* E?SEARCH\b/i.test(text)) return 'pass';
        if (/^\* ESEARCH/i.test(text) && !text.includes(`"${tag}"`)) return 'pass';
        isAnswered = true;
        const uids = /^\* ESEARCH/i.test(text) ? allOf(text) : listed(text);
        const mailbox = this.#mailbox;
        if (mailbox !== undefined) mailbox.mapTries++;
        if (mailbox === undefined || uids === undefined || mailbox.ghosts.size > 0) return 'drop';
        if (uids.length !== mailbox.view.count || mailbox.view.known > 0) return 'drop';
        mailbox.isMapped = mailbox.view.name(uids);
        return 'drop';
      },
      end: (status) => {
        if (status !== 'OK' && this.#mailbox !== undefined) this.#mailbox.mapTries = MAX_MAP_TRIES;
      },
    });
  }

  /** Questions that are due, and EXPUNGEs that may be told. */
  #settle(): void {
    if (this.#state === 'down') return void this.#settleDown();
    if (this.#state !== 'live') return;
    this.#pump();
    const mailbox = this.#mailbox;
    const isIdle = this.#flying.some((one) => isFlight(one) && (!one.isSent || one.row.kind === 'idle'));
    const isMoving = this.#flying.some((one) => isFlight(one) && ['select', 'close', 'unknown'].includes(one.row.kind));
    if (mailbox === undefined || isIdle || isMoving || this.#saying !== undefined) return;
    const { view, ghosts } = mailbox;
    if (ghosts.size > 0 || this.#flying.some((one) => !isFlight(one))) return;
    if (!mailbox.isMapped && mailbox.mapTries < MAX_MAP_TRIES && view.known === 0) this.#askMap();
    else if (mailbox.isMapped && view.known < view.count) this.#askTail(mailbox);
  }

  /** New messages get their UIDs. */
  #askTail(mailbox: Mailbox): void {
    const { view } = mailbox;
    const found = new Map<number, number>();
    this.#question(`FETCH ${view.known + 1}:${view.count} (UID)`, {
      hear: (line) => {
        const text = line.toString('latin1');
        const [, n] = /^\* (\d+) FETCH \(/i.exec(text) ?? [];
        const uid = fetchUid(text);
        if (n === undefined || uid === 0 || found.has(Number(n))) return 'pass';
        found.set(Number(n), uid);
        return /^\* \d+ FETCH \(UID \d+\)\r?\n$/i.test(text) ? 'drop' : 'pass';
      },
      end: () => {
        const uids: number[] = [];
        for (let n = view.known + 1; found.has(n); n++) uids.push(found.get(n) as number);
        if (uids.length > 0 && view.name(uids) && view.known === view.count) mailbox.isTouched = false;
        else if (uids.length === 0) mailbox.isMapped = false;
      },
    });
  }

  /** LOGOUT needs no far side. */
  #settleDown(): void {
    const [first] = this.#waiting;
    if (first?.row.kind !== 'logout' || !first.complete || this.#open !== undefined) return;
    this.#toClient.say(`* BYE Logging out\r\n${first.tag} OK Logout completed.\r\n`);
    this.#state = 'over';
    this.#end = { why: 'logged out' };
  }

  /** EXPUNGEs that could not be told so far, highest first, when a command runs that allows it and none that forbids it. */
  #tellExpunged(): void {
    const mailbox = this.#mailbox;
    if (mailbox === undefined || mailbox.ghosts.size === 0 || !this.#mayTellExpunge()) return;
    const { view, ghosts } = mailbox;
    const numbers = [...ghosts.numbers].reverse();
    if (this.#enabled.has('QRESYNC') && numbers.every((n) => view.uid(n) > 0)) {
      this.#toClient.say(
        `* VANISHED ${numbers
          .map((n) => view.uid(n))
          .reverse()
          .join(',')}\r\n`,
      );
    } else for (const n of numbers) this.#toClient.say(`* ${n} EXPUNGE\r\n`);
    for (const n of numbers) view.expunge(n);
    ghosts.clear();
  }

  #mayTellExpunge(): boolean {
    if (this.#open !== undefined || !this.#fromFar.whole) return false;
    const flights = [...this.#flying.filter(isFlight), ...this.#waiting];
    const isMoving = flights.some(({ row }) => row.numbers === true || row.kind === 'select' || row.kind === 'close');
    return flights.length > 0 && !isMoving;
  }

  // What the far side says.

  #heard(piece: Piece): void {
    if (this.#state === 'over') return;
    if (this.#state === 'plain') return void this.#toClient.push(piece.bytes);
    if (piece.type === 'line' && piece.first) {
      this.#route = this.#first(piece.bytes, piece.last);
      if (this.#route === 'drop') return;
      if ((this.#state as State) === 'plain') return;
    }
    const route = this.#route;
    if (route === 'drop') return;
    if (route === 'ask') return void this.#gather(piece.bytes, piece);
    if (route === 'resume') return void this.#goOn(piece);
    if (route !== 'pass') return void this.#keep(route.flight, piece);
    if (!(piece.type === 'line' && piece.first)) this.#toClient.push(piece.bytes);
    this.#track(piece);
  }

  /** Looks at how a response begins, and gives its first line on unless it is kept. */
  #first(line: Buffer, isWhole: boolean): Route {
    const head = readResponseHead(line);
    if (this.#state === 'crossing') return this.#firstOfCrossing(line, head, isWhole);
    if (head.type === 'continue') return this.#plus(line);
    if (head.type === 'tagged') return this.#tagged(head, line);
    for (const one of this.#flying) if (!isFlight(one) && one.hear(line) === 'drop') return 'drop';
    return this.#give(line, head, { flight: this.#asking(head), isWhole });
  }

  /** The command an untagged response answers: Dovecot 2.3.19 runs a SEARCH and a FETCH behind it at once, so that order does not tell. */
  #asking(head: ResponseHead): Flight | undefined {
    const flights = this.#flying.filter(isFlight);
    if (flights[0]?.row.kind === 'select') return flights[0];
    if (head.type === 'numbered')
      return head.word === 'FETCH' ? flights.find(({ row }) => row.kind === 'fetch') : undefined;
    const word = head.type === 'untagged' ? head.word : '';
    if (['OK', 'NO', 'BAD', 'BYE', 'PREAUTH', 'VANISHED', 'FLAGS'].includes(word)) return undefined;
    const isFound = ['SEARCH', 'ESEARCH', 'SORT', 'THREAD'].includes(word);
    return flights.find(({ row }) => (isFound ? row.kind === 'search' : row.kind === 'read' || row.kind === 'enable'));
  }

  /** Gives an untagged response's first line to the client, in the client's numbers, or keeps it with its answer. */
  #give(line: Buffer, head: ResponseHead, o: { flight: Flight | undefined; isWhole: boolean }): Route {
    const told = this.#untagged(line, head, o);
    if (told === undefined) return 'drop';
    if (o.flight?.row.held === true && !o.flight.spilt) {
      this.#keepBytes(o.flight, told);
      return { flight: o.flight };
    }
    this.#toClient.push(told);
    return 'pass';
  }

  #plus(line: Buffer): Route {
    const flight = this.#flying.filter(isFlight).find((one) => one.got < one.due || one.row.kind === 'unknown');
    if (flight === undefined) {
      this.#toClient.push(line);
      return 'pass';
    }
    flight.got++;
    if (flight.got <= flight.given) return 'drop';
    flight.given++;
    this.#toClient.push(line);
    return 'pass';
  }

  #tagged(head: ResponseHead & { type: 'tagged' }, line: Buffer): Route {
    const at = this.#flying.findIndex(({ tag }) => tag === head.tag);
    const one = this.#flying[at];
    if (one === undefined) {
      this.#toClient.push(line);
      return 'pass';
    }
    this.#tellExpunged();
    this.#flying.splice(at, 1);
    if (!isFlight(one)) {
      one.end(head.status, line);
      return 'drop';
    }
    for (const bytes of one.answer) this.#toClient.push(bytes);
    one.answer = [];
    if (this.#isRefusedForItself(one, line)) {
      this.#finish('it cannot be known what became of a command');
      return 'drop';
    }
    this.#toClient.push(this.#closing(one, line, head.status));
    this.#ended(one, head.status, line);
    return 'pass';
  }

  /** The tagged line as the client gets it. */
  #closing(flight: Flight, line: Buffer, status: string): Buffer {
    if (flight.gone && status === 'OK') return Buffer.from(gone(flight), 'latin1');
    const code = flight.again && flight.row.kind === 'folder' ? codeOf(line) : undefined;
    const isDone =
      (flight.name === 'CREATE' && code === 'ALREADYEXISTS') || (flight.name === 'DELETE' && code === 'NONEXISTENT');
    if (flight.begun && isDone) return Buffer.from(`${flight.tag} OK ${flight.name} completed.\r\n`, 'latin1');
    return withoutCompress(line);
  }

  /** A folder command given again that is refused without a reason that tells: perhaps it was done the first time. */
  #isRefusedForItself(flight: Flight, line: Buffer): boolean {
    if (!flight.again || !flight.begun || flight.row.kind !== 'folder' || !/^\S+ NO\b/i.test(line.toString('latin1')))
      return false;
    const code = codeOf(line);
    if (flight.name === 'CREATE') return code !== 'ALREADYEXISTS' && code !== 'CANNOT' && code !== 'NOPERM';
    if (flight.name === 'DELETE') return code !== 'NONEXISTENT' && code !== 'NOPERM';
    return code !== 'NOPERM';
  }

  /** What a command's end changes. */
  #ended(flight: Flight, status: string, line: Buffer): void {
    if (!flight.complete) this.#refused(flight);
    if (flight.row.kind === 'select') this.#selected(flight, status, line);
    else if (flight.row.kind === 'close' && status === 'OK') this.#mailbox = undefined;
    else if (flight.row.kind === 'unknown' && status !== 'BAD')
      return void this.#becomePlain(`${flight.name} is not tracked`);
    else if (flight.row.kind === 'append' || flight.row.kind === 'copy') this.#learnDestination(flight, line);
    this.#mailbox?.learn(line.toString('latin1'));
    this.#pump();
  }

  /** A command was refused before all of it was said: the rest will not come, or is another command. */
  #refused(flight: Flight): void {
    if (this.#saying !== flight) return;
    this.#saying = undefined;
    const unsent = flight.segments.slice(flight.sent);
    this.#fromClient.abandon();
    for (const { bytes } of unsent) this.#fromClient.push(bytes, (piece) => this.#said(piece));
  }

  #selected(flight: Flight, status: string, line: Buffer): void {
    const coming = this.#coming;
    this.#coming = undefined;
    this.#mailbox = undefined;
    if (status !== 'OK') return;
    this.#mailbox = coming ?? new Mailbox(flight);
    this.#mailbox.learn(line.toString('latin1'));
    if (flight.spilt) this.#mailbox.spoilt = undefined;
  }

  #learnDestination(flight: Flight, line: Buffer): void {
    const text = line.toString('latin1');
    const [, validity, last] =
      /\[(?:APPENDUID (\d+) (\d+)|COPYUID (\d+) \S+ (?:[\d:,]*[:,])?(\d+))\]/i
        .exec(text)
        ?.filter((it) => it !== undefined) ?? [];
    const name = flight.destination?.name;
    if (name === undefined || last === undefined) return;
    const destination = { name, uidNext: Number(last) + 1, uidValidity: Number(validity) };
    if (this.#destinations.size > 64) this.#destinations.clear();
    this.#destinations.set(name.toUpperCase() === 'INBOX' ? 'INBOX' : name, destination);
  }

  /** Notes what an untagged response says. The line as the client gets it, or undefined when it is kept from it. */
  #untagged(line: Buffer, head: ResponseHead, o: { flight: Flight | undefined; isWhole: boolean }): Buffer | undefined {
    if (head.type === 'numbered') return this.#numbered(line, head, o);
    if (head.type !== 'untagged') return line;
    const kind = o.flight?.row.kind;
    const text = (): string => line.toString('latin1');
    if (head.word === 'BYE') this.#isLeaving = true;
    else if (head.word === 'OK') this.#selecting(o.flight)?.learn(text());
    else if (head.word === 'CAPABILITY') return withoutCompress(line);
    else if (head.word === 'ENABLED')
      for (const name of text().trim().split(/ +/).slice(2)) this.#enabled.add(name.toUpperCase());
    else if (head.word === 'VANISHED' && !/^\* VANISHED \(EARLIER\)/i.test(text())) {
      this.#mailbox?.vanish(/ ([\d:,]+)\s*$/.exec(text())?.[1] ?? '');
    } else if (kind === 'search' && o.flight?.row.numbers === true && this.#mailbox && this.#mailbox.ghosts.size > 0) {
      return translateAnswer(line, head.word, this.#mailbox.ghosts);
    }
    if (head.word === 'OK' && /^\* OK \[CAPABILITY /i.test(text())) return withoutCompress(line);
    return line;
  }

  /** The mailbox an untagged response is about. */
  #selecting(flight: Flight | undefined): Mailbox | undefined {
    if (flight?.row.kind !== 'select') return this.#mailbox;
    this.#coming ??= new Mailbox(flight);
    return this.#coming;
  }

  #numbered(
    line: Buffer,
    { n, word }: { n: number; word: string },
    o: { flight: Flight | undefined; isWhole: boolean },
  ): Buffer | undefined {
    const mailbox = this.#selecting(o.flight);
    if (mailbox === undefined) return line;
    const { ghosts, view } = mailbox;
    if (word === 'EXISTS') {
      view.exists(n + ghosts.size);
      return ghosts.size === 0 ? line : Buffer.from(`* ${n + ghosts.size} EXISTS\r\n`);
    }
    if (word === 'EXPUNGE') return this.#expunged(line, n, mailbox);
    if (word !== 'FETCH') return line;
    const at = ghosts.size === 0 ? n : ghosts.toClient(n);
    this.#fetched(line, at, mailbox, o);
    return at === n ? line : Buffer.from(line.toString('latin1').replace(/^\* \d+/, `* ${at}`), 'latin1');
  }

  #expunged(line: Buffer, n: number, mailbox: Mailbox): Buffer | undefined {
    const isOurs = this.#flying.some((one) => !isFlight(one));
    if ((isOurs || mailbox.ghosts.size > 0) && !this.#mayTellExpunge()) {
      mailbox.ghosts.add(mailbox.ghosts.toClient(n));
      return undefined;
    }
    const at = mailbox.expunge(n);
    return at === n ? line : Buffer.from(`* ${at} EXPUNGE\r\n`);
  }

  #fetched(line: Buffer, n: number, mailbox: Mailbox, o: { flight: Flight | undefined; isWhole: boolean }): void {
    const text = line.toString('latin1');
    const flags = fetchFlags(text);
    if (flags !== undefined) mailbox.view.tell(n, flags);
    if (n > mailbox.view.known) mailbox.isTouched = true;
    const uid = mailbox.view.uid(n) || fetchUid(text);
    const flight = o.flight?.row.kind === 'fetch' && o.flight.answers(text) ? o.flight : undefined;
    if (!o.isWhole) this.#open = { flight, uid, literal: 0, tail: '', octets: 0 };
    else if (flight !== undefined && uid > 0) flight.delivered.push(uid);
  }

  /** Follows a response that is given to the client as it comes. */
  #track(piece: Piece): void {
    const whole = piece.type === 'line' && piece.last;
    if (this.#open === undefined) {
      if (!whole && piece.type === 'line' && piece.first)
        this.#open = { flight: undefined, uid: 0, literal: 0, tail: '', octets: 0 };
      else if (!whole) return;
    }
    const open = this.#open;
    if (open === undefined) return;
    if (whole) {
      if (open.flight !== undefined && open.uid > 0) open.flight.delivered.push(open.uid);
      this.#open = undefined;
    } else if (piece.type === 'line') {
      open.literal++;
      open.octets = 0;
      open.tail = tailOf(piece.bytes);
    } else open.octets += piece.bytes.length;
  }

  #keep(flight: Flight, piece: Piece): void {
    if (piece.type === 'line' && piece.first) return;
    this.#keepBytes(flight, piece.bytes);
  }

  #keepBytes(flight: Flight, bytes: Buffer): void {
    flight.answer.push(Buffer.from(bytes));
    flight.answerSize += bytes.length;
    if (flight.answerSize <= MAX_HELD_ANSWER) return;
    // From here on it is told as it comes; a death in the middle of it ends the session.
    for (const part of flight.answer) this.#toClient.push(part);
    flight.answer = [];
    flight.spilt = true;
    flight.spoilt = 'an answer was given in part';
    if (!this.#fromFar.whole) this.#open = { flight: undefined, uid: 0, literal: 0, tail: '', octets: 0 };
    this.#route = 'pass';
  }

  // The end of tracking, and of the session.

  #becomePlain(why: string, said?: Buffer): void {
    if (this.#state === 'plain' || this.#state === 'over') return;
    const isClean = this.#state === 'live' && (this.#mailbox?.ghosts.size ?? 0) === 0;
    if (!isClean) return void this.#finish(why);
    for (const one of this.#flying.filter(isFlight)) for (const bytes of one.answer) this.#toClient.push(bytes);
    const unsent = [...this.#flying.filter(isFlight), ...this.#waiting].flatMap((one) => one.segments.slice(one.sent));
    this.#state = 'plain';
    for (const { bytes } of unsent) this.#toFar.push(bytes);
    if (said !== undefined) this.#toFar.push(said);
    this.#flying = [];
    this.#waiting = [];
    this.#saying = undefined;
    this.#mailbox = undefined;
  }

  /** What was kept of unfinished lines, once all that came before it has passed. */
  #passHeld(): void {
    this.#toFar.push(this.#fromClient.rest());
    this.#toClient.push(this.#fromFar.held);
  }

  #finish(reason: string): void {
    if (this.#state === 'over') return;
    if (this.atLineEnd) this.#toClient.say(`* BYE [UNAVAILABLE] ${responseText(reason)}\r\n`);
    this.#state = 'over';
    this.#end = { why: reason };
  }

  /** Why this cannot be carried over; undefined when it can. */
  #obstacle(flights: readonly Flight[], reason: string): string | undefined {
    const mailbox = this.#mailbox;
    if (flights.some((one) => one.begun && one.row.kind === 'unknown')) return reason;
    const spoilt = flights.find((one) => one.begun && one.spoilt !== undefined);
    if (spoilt !== undefined) return `${reason}; ${spoilt.spoilt}`;
    if (this.#open !== undefined && (this.#open.flight === undefined || this.#open.uid === 0)) return reason;
    const isLeaving = flights[0]?.row.kind === 'select';
    if (mailbox === undefined || isLeaving) return undefined;
    if (mailbox.spoilt !== undefined) return `${reason}; ${mailbox.spoilt}`;
    if (!mailbox.isMapped || mailbox.uidValidity === undefined) return reason;
    return undefined;
  }

  // The crossing.

  /** Goes on with the crossing, given the answers to its last questions. */
  #cross(answers: Parameters<Crossing['next']>[0] | undefined): void {
    const step = answers === undefined ? this.#crossing?.next([]) : this.#crossing?.next(answers);
    if (step === undefined) return;
    if (step.done === true) return void this.#crossed(step.value);
    this.#asked = step.value.map((question: Question) => {
      const tag = this.#newTag();
      this.#toFar.say(`${tag} ${question}\r\n`);
      return { tag };
    });
    this.#responses = [];
    this.#gathered = 0;
    if (this.#asked.length === 0) this.#cross([]);
  }

  #firstOfCrossing(line: Buffer, head: ResponseHead, isWhole: boolean): Route {
    if (head.type === 'untagged' && head.word === 'BYE') return 'drop';
    if (this.#resumed !== undefined) return this.#firstOfResumed(line, head, isWhole);
    if (head.type !== 'tagged') return 'ask';
    const question = this.#asked.find(({ tag }) => tag === head.tag);
    if (question === undefined) return 'drop';
    question.end = { status: head.status, line: line.toString('latin1') };
    if (this.#asked.every(({ end }) => end !== undefined)) this.#answered();
    return 'drop';
  }

  #answered(): void {
    const responses = this.#responses;
    const answers = this.#asked.map(({ end }) => ({ responses, status: end?.status ?? 'BAD', line: end?.line ?? '' }));
    this.#asked = [];
    this.#cross(answers);
  }

  #gather(bytes: Buffer, piece: Piece): void {
    this.#parts.push(Buffer.from(bytes));
    this.#gathered += bytes.length;
    if (this.#gathered > MAX_OWN_ANSWER) return void this.#finish('the far side answers too much');
    if (piece.type !== 'line' || !piece.last) return;
    this.#responses.push(Buffer.concat(this.#parts));
    this.#parts = [];
  }

  /** The new session stands where the old one stood: first what was cut goes on, then what is new is told. */
  #crossed(result: CrossingResult): void {
    if (result.type === 'untrue') return void this.#finish(result.reason);
    this.#fresh = result.fresh;
    if (this.#open === undefined) return void this.#restored();
    const { flight, uid } = this.#open;
    const n = (result.fresh?.uids.indexOf(uid) ?? -1) + 1;
    const items = flight?.segments.length === 1 ? flight.text.slice(flight.words[0]?.to).trim() : undefined;
    if (flight === undefined || items === undefined || n === 0) return void this.#finish('a message is gone');
    const tag = this.#newTag();
    this.#resumed = { tag, n, literal: 0, skip: 0, isMatched: false };
    this.#toFar.say(`${tag} ${flight.name} ${flight.name.startsWith('UID ') ? uid : n} ${items}\r\n`);
  }

  #firstOfResumed(line: Buffer, head: ResponseHead, isWhole: boolean): Route {
    const resumed = this.#resumed as Resumed;
    if (head.type === 'tagged') {
      if (head.tag !== resumed.tag) return 'drop';
      this.#resumed = undefined;
      if (this.#open === undefined) this.#restored();
      else this.#finish('a message cannot be had again');
      return 'drop';
    }
    const isIt = head.type === 'numbered' && head.word === 'FETCH' && head.n === resumed.n && !isWhole;
    if (isIt && !resumed.isMatched) return 'resume';
    if (isWhole) this.#aside.push(Buffer.from(line));
    return 'drop';
  }

  /** Passes of a response what the client has not had of it. */
  #goOn(piece: Piece): void {
    const resumed = this.#resumed;
    const open = this.#open;
    if (resumed === undefined || open === undefined) return;
    if (piece.type === 'body') {
      if (!resumed.isMatched) return;
      const skipped = Math.min(resumed.skip, piece.bytes.length);
      resumed.skip -= skipped;
      const bytes = piece.bytes.subarray(skipped);
      this.#toClient.push(bytes);
      open.octets += bytes.length;
      return;
    }
    if (resumed.isMatched) {
      this.#toClient.push(piece.bytes);
      return void this.#track(piece);
    }
    resumed.literal++;
    if (piece.last) return void this.#finish('a message is not what it was');
    if (resumed.literal < open.literal) return;
    if (tailOf(piece.bytes) !== open.tail) return void this.#finish('a message is not what it was');
    resumed.isMatched = true;
    resumed.skip = open.octets;
  }

  /** Tells what has changed, as far as it may be told now, and goes on. */
  #restored(): void {
    const fresh = this.#fresh;
    this.#fresh = undefined;
    this.#crossing = undefined;
    this.#state = 'live';
    const reason = fresh === undefined || this.#mailbox === undefined ? undefined : this.#news(this.#mailbox, fresh);
    if (reason !== undefined) return void this.#finish(reason);
    this.#isCarried = true;
    for (const line of this.#aside.splice(0)) {
      const told = this.#untagged(line, readResponseHead(line), { flight: undefined, isWhole: true });
      if (told !== undefined) this.#toClient.push(told);
    }
    this.#pump();
  }

  #news(mailbox: Mailbox, fresh: Fresh): string | undefined {
    const difference = compare(mailbox, fresh);
    if (difference.type === 'untrue') return difference.reason;
    const { view, ghosts } = mailbox;
    const { gone, extra, unnamed } = difference;
    const tail = view.count - view.known;
    ghosts.clear();
    for (const n of gone) ghosts.add(n);
    const holes = Math.max(0, tail - extra.length - unnamed);
    if (holes > 0 && !this.#mayTellExpunge()) return 'a message is gone that never had a name';
    if (!view.name(extra.slice(0, tail))) return 'the mailbox is not what it was';
    for (let hole = 0; hole < holes; hole++) {
      this.#toClient.say(`* ${view.count} EXPUNGE\r\n`);
      view.expunge(view.count);
    }
    this.#tellExpunged();
    const count = view.count + Math.max(0, extra.length + unnamed - tail);
    if (count > view.count) {
      view.exists(count);
      this.#toClient.say(`* ${view.count} EXISTS\r\n* ${fresh.recent} RECENT\r\n`);
    }
    if (!view.name(extra.slice(tail))) return 'the mailbox is not what it was';
    for (const [far, { flags, text }] of fresh.flags) {
      const n = ghosts.toClient(far);
      if (!view.isNews(n, flags)) continue;
      this.#toClient.say(`* ${n} FETCH (${text})\r\n`);
      view.tell(n, flags);
    }
    return undefined;
  }
}

/** A capability list without compression: compressed octets cannot be followed. Any other line as it is. */
export function withoutCompress(line: Buffer): Buffer {
  const text = line.toString('latin1');
  if (!/ COMPRESS=DEFLATE\b/i.test(text) || !/^(?:\* CAPABILITY |\S+ (?:OK|PREAUTH) \[CAPABILITY )/i.test(text))
    return line;
  return Buffer.from(text.replace(/ COMPRESS=DEFLATE\b/i, ''), 'latin1');
}

/** What the end of a line announces: the item and its size. */
function tailOf(line: Buffer): string {
  const end = line.toString('latin1', Math.max(0, line.length - 1000));
  return /(?:[A-Z0-9.]+(?:\[[^\]]*\])?(?:<\d+>)? )?~?\{\d+\}\r?\n$/i.exec(end)?.[0] ?? '';
}

function codeOf(line: Buffer): string | undefined {
  return parseStatus(line.toString('latin1').replace(/\r?\n$/, ''))?.code?.name;
}

function gone(flight: Flight): string {
  return `${flight.tag} NO [EXPUNGEISSUED] Some of the messages no longer exist\r\n`;
}

function fetched(flight: Flight): string {
  return flight.gone ? gone(flight) : `${flight.tag} OK Fetch completed.\r\n`;
}

function equal(a: string, b: string): boolean {
  return a.toUpperCase() === b.toUpperCase();
}
