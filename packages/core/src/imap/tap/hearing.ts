/** What the far side says while a session lives: noted, and given to the client in its own numbers. */
import { parseStatus } from '../response.ts';
import { becomePlain, finish } from './ending.ts';
import { type Flight, gone, isFlight } from './flight.ts';
import { Mailbox } from './mailbox.ts';
import { learnDestination } from './questions.ts';
import { pump, said } from './sending.ts';
import type { About, Route, TapState } from './state.ts';
import { keepBytes, mayTellExpunge, tellExpunged } from './telling.ts';
import { translateAnswer } from './translate.ts';
import { fetchFlags, fetchUid, type ResponseHead, readResponseHead } from './words.ts';

/** Looks at how a response begins, and gives its first line on unless it is kept. */
export function firstLine(s: TapState, line: Buffer, isWhole: boolean): Route {
  const head = readResponseHead(line);
  if (head.type === 'continue') return plus(s, line);
  if (head.type === 'tagged') return tagged(s, head, line);
  for (const one of s.flying) if (!isFlight(one) && one.hear(line) === 'drop') return 'drop';
  return give(s, line, head, { flight: askerOf(s, head), isWhole });
}

/** The command an untagged response answers: Dovecot 2.3.19 runs a SEARCH and a FETCH behind it at once, so that order does not tell. */
function askerOf(s: TapState, head: ResponseHead): Flight | undefined {
  const flights = s.flights;
  if (flights[0]?.row.kind === 'select') return flights[0];
  if (head.type === 'numbered')
    return head.word === 'FETCH' ? flights.find(({ row }) => row.kind === 'fetch') : undefined;
  const word = head.type === 'untagged' ? head.word : '';
  if (['OK', 'NO', 'BAD', 'BYE', 'PREAUTH', 'VANISHED', 'FLAGS'].includes(word)) return undefined;
  const isFound = ['SEARCH', 'ESEARCH', 'SORT', 'THREAD'].includes(word);
  return flights.find(({ row }) => (isFound ? row.kind === 'search' : row.kind === 'read' || row.kind === 'enable'));
}

/** Gives an untagged response's first line to the client, in the client's numbers, or keeps it with its answer. */
function give(s: TapState, line: Buffer, head: ResponseHead, o: About): Route {
  const told = untagged(s, line, head, o);
  if (told === undefined) return 'drop';
  if (o.flight?.row.held === true && !o.flight.spilt) {
    keepBytes(s, o.flight, told);
    return { flight: o.flight };
  }
  s.toClient.push(told);
  return 'pass';
}

function plus(s: TapState, line: Buffer): Route {
  const flight = s.flights.find((one) => one.got < one.due || one.row.kind === 'unknown');
  if (flight === undefined) {
    s.toClient.push(line);
    return 'pass';
  }
  flight.got++;
  if (flight.got <= flight.given) return 'drop';
  flight.given++;
  s.toClient.push(line);
  return 'pass';
}

function tagged(s: TapState, head: ResponseHead & { type: 'tagged' }, line: Buffer): Route {
  const at = s.flying.findIndex(({ tag }) => tag === head.tag);
  const one = s.flying[at];
  if (one === undefined) {
    s.toClient.push(line);
    return 'pass';
  }
  tellExpunged(s);
  s.flying.splice(at, 1);
  if (!isFlight(one)) {
    one.end(head.status, line);
    return 'drop';
  }
  for (const bytes of one.answer) s.toClient.push(bytes);
  one.answer = [];
  if (isRefusedForItself(s, one, line)) {
    finish(s, 'it cannot be known what became of a command');
    return 'drop';
  }
  s.toClient.push(closing(s, one, line, head.status));
  noteEnd(s, one, head.status, line);
  return 'pass';
}

/** The tagged line as the client gets it. */
function closing(_s: TapState, flight: Flight, line: Buffer, status: string): Buffer {
  if (flight.gone && status === 'OK') return Buffer.from(gone(flight), 'latin1');
  const code = flight.again && flight.row.kind === 'folder' ? codeOf(line) : undefined;
  const isDone =
    (flight.name === 'CREATE' && code === 'ALREADYEXISTS') || (flight.name === 'DELETE' && code === 'NONEXISTENT');
  if (flight.begun && isDone) return Buffer.from(`${flight.tag} OK ${flight.name} completed.\r\n`, 'latin1');
  return withoutCompress(line);
}

/** A folder command given again that is refused without a reason that tells: perhaps it was done the first time. */
function isRefusedForItself(_s: TapState, flight: Flight, line: Buffer): boolean {
  if (!flight.again || !flight.begun || flight.row.kind !== 'folder' || !/^\S+ NO\b/i.test(line.toString('latin1')))
    return false;
  const code = codeOf(line);
  if (flight.name === 'CREATE') return code !== 'ALREADYEXISTS' && code !== 'CANNOT' && code !== 'NOPERM';
  if (flight.name === 'DELETE') return code !== 'NONEXISTENT' && code !== 'NOPERM';
  return code !== 'NOPERM';
}

/** What a command's end changes. */
function noteEnd(s: TapState, flight: Flight, status: string, line: Buffer): void {
  if (!flight.complete) refused(s, flight);
  if (flight.row.kind === 'select') selected(s, flight, status, line);
  else if (flight.row.kind === 'close' && status === 'OK') s.mailbox = undefined;
  else if (flight.row.kind === 'unknown' && status !== 'BAD')
    return void becomePlain(s, `${flight.name} is not tracked`);
  else if (['append', 'copy', 'move'].includes(flight.row.kind)) learnDestination(s, flight, line);
  s.mailbox?.learn(line.toString('latin1'));
  pump(s);
}

/** A command was refused before all of it was said: the rest will not come, or is another command. */
function refused(s: TapState, flight: Flight): void {
  if (s.saying !== flight) return;
  s.saying = undefined;
  const unsent = flight.segments.slice(flight.sent);
  s.clientFramer.abandon();
  for (const { bytes } of unsent) s.clientFramer.push(bytes, (piece) => said(s, piece));
}

function selected(s: TapState, flight: Flight, status: string, line: Buffer): void {
  const coming = s.coming;
  s.coming = undefined;
  s.mailbox = undefined;
  if (status !== 'OK') return;
  s.mailbox = coming ?? new Mailbox(flight);
  s.mailbox.learn(line.toString('latin1'));
  if (flight.spilt) s.mailbox.spoilt = undefined;
}

/** Notes what an untagged response says. The line as the client gets it, or undefined when it is kept from it. */
export function untagged(s: TapState, line: Buffer, head: ResponseHead, o: About): Buffer | undefined {
  if (head.type === 'numbered') return numbered(s, line, head, o);
  if (head.type !== 'untagged') return line;
  const kind = o.flight?.row.kind;
  const text = (): string => line.toString('latin1');
  if (head.word === 'BYE') s.isLeaving = true;
  else if (head.word === 'OK') noteOk(s, text(), o.flight);
  else if (head.word === 'CAPABILITY') return withoutCompress(line);
  else if (head.word === 'ENABLED')
    for (const name of text().trim().split(/ +/).slice(2)) s.enabled.add(name.toUpperCase());
  else if (head.word === 'VANISHED' && !/^\* VANISHED \(EARLIER\)/i.test(text())) {
    return vanished(s, line);
  } else if (kind === 'search' && o.flight?.row.numbers === true && s.mailbox && s.mailbox.ghosts.size > 0) {
    return translateAnswer(line, head.word, s.mailbox.ghosts);
  }
  if (head.word === 'OK' && /^\* OK \[CAPABILITY /i.test(text())) return withoutCompress(line);
  return line;
}

/** An untagged OK: it may tell of the mailbox, or where a MOVE has put its messages (RFC 6851 §4.3). */
function noteOk(s: TapState, line: string, flight: Flight | undefined): void {
  selecting(s, flight)?.learn(line);
  const move = /^\* OK \[COPYUID /i.test(line) ? s.flights.find(({ row }) => row.kind === 'move') : undefined;
  if (move !== undefined) move.isCopied = true;
}

/** The mailbox an untagged response is about. */
function selecting(s: TapState, flight: Flight | undefined): Mailbox | undefined {
  if (flight?.row.kind !== 'select') return s.mailbox;
  s.coming ??= new Mailbox(flight);
  return s.coming;
}

function numbered(s: TapState, line: Buffer, { n, word }: { n: number; word: string }, o: About): Buffer | undefined {
  const mailbox = selecting(s, o.flight);
  if (mailbox === undefined) return line;
  const { ghosts, view } = mailbox;
  if (word === 'EXISTS') {
    view.exists(n + ghosts.size);
    return ghosts.size === 0 ? line : Buffer.from(`* ${n + ghosts.size} EXISTS\r\n`);
  }
  if (word === 'EXPUNGE') return expunged(s, line, n, mailbox);
  if (word !== 'FETCH') return line;
  const at = ghosts.size === 0 ? n : ghosts.toClient(n);
  noteFetch(s, line, at, mailbox, o);
  return at === n ? line : Buffer.from(line.toString('latin1').replace(/^\* \d+/, `* ${at}`), 'latin1');
}

function expunged(s: TapState, line: Buffer, n: number, mailbox: Mailbox): Buffer | undefined {
  const isOurs = s.flying.some((one) => !isFlight(one));
  if ((isOurs || mailbox.ghosts.size > 0) && !mayTellExpunge(s)) {
    mailbox.ghosts.add(mailbox.ghosts.toClient(n));
    return undefined;
  }
  const at = mailbox.expunge(n);
  return at === n ? line : Buffer.from(`* ${at} EXPUNGE\r\n`);
}

/** As {@link expunged}, by UID. */
function vanished(s: TapState, line: Buffer): Buffer | undefined {
  const { mailbox } = s;
  const set = / ([\d:,]+)\s*$/.exec(line.toString('latin1'))?.[1];
  if (mailbox === undefined || set === undefined) return line;
  const isOurs = s.flying.some((one) => !isFlight(one));
  if (!isOurs && mailbox.ghosts.size === 0) {
    mailbox.vanish(set);
    return line;
  }
  if (mayTellExpunge(s)) {
    tellExpunged(s);
    mailbox.vanish(set);
    return line;
  }
  const told = mailbox.haunt(set);
  return told === undefined ? undefined : Buffer.from(`* VANISHED ${told}\r\n`);
}

function noteFetch(s: TapState, line: Buffer, n: number, mailbox: Mailbox, o: About): void {
  const text = line.toString('latin1');
  const flags = fetchFlags(text);
  if (flags !== undefined) mailbox.view.tell(n, flags);
  if (n > mailbox.view.known) mailbox.isTouched = true;
  const uid = mailbox.view.uid(n) || fetchUid(text);
  const flight = o.flight?.row.kind === 'fetch' && o.flight.answers(text) ? o.flight : undefined;
  if (!o.isWhole) s.open = { flight, uid, literal: 0, tail: '', octets: 0 };
  else if (flight !== undefined && uid > 0) flight.delivered.push(uid);
}

/** A capability list without compression: compressed octets cannot be followed. Any other line as it is. */
export function withoutCompress(line: Buffer): Buffer {
  const text = line.toString('latin1');
  if (!/ COMPRESS=DEFLATE\b/i.test(text) || !/^(?:\* CAPABILITY |\S+ (?:OK|PREAUTH) \[CAPABILITY )/i.test(text))
    return line;
  return Buffer.from(text.replace(/ COMPRESS=DEFLATE\b/i, ''), 'latin1');
}

function codeOf(line: Buffer): string | undefined {
  return parseStatus(line.toString('latin1').replace(/\r?\n$/, ''))?.code?.name;
}
