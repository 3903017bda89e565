/** A command of the client from its first octet to its tagged reply, kept so that it can be given again. */

import { MAX_KEPT_COMMAND } from './limits.ts';
import { type Row, rowOf } from './table.ts';
import { type CommandHead, fetchFlags, fetchHasContent, fetchUid, readWords, type Word } from './words.ts';

/** A piece of a command. `sync`: its sender waits for `+` behind it. */
export interface Segment {
  readonly bytes: Buffer;
  readonly sync: boolean;
  readonly literal: boolean;
}

/** Where a message is to go, and what was there before. */
export interface Destination {
  readonly name: string;
  /** Undefined until it has been asked; 0 when there is no such mailbox. */
  uidNext?: number;
  uidValidity?: number;
}

/** See the file's law. Changed by the tap as octets pass. */
export class Flight {
  readonly tag: string;
  readonly name: string;
  readonly row: Row;
  readonly segments: Segment[] = [];
  readonly #argsAt: number;
  size = 0;
  /** All its octets are here. */
  kept = true;
  /** The client has said all of it. */
  complete = false;
  /** Segments written to the far session of now, and `+` it has given for them. */
  sent = 0;
  got = 0;
  /** `+` the client has been given. */
  given = 0;
  /** Its first line as the far side gets it, when message numbers differ. */
  rewritten: Buffer | undefined;
  /** Its answer so far, when that is kept; `spilt` when it was too large for that. */
  answer: Buffer[] = [];
  answerSize = 0;
  spilt = false;
  /** It was under way when a session was lost. */
  again = false;
  /** Some octet of it, and its last one, went to a far session whose end is not known. */
  begun = false;
  final = false;
  /** UIDs whose FETCH response the client has been given whole. */
  readonly delivered: number[] = [];
  /** Messages it names are gone. */
  gone = false;
  /** What it leads to cannot be looked up: once it is sent whole, only that can be said. */
  isUncertain = false;
  /** A reason why it can not be given again. */
  spoilt: string | undefined;
  destination: Destination | undefined;
  /** The client has been told where a MOVE has put its messages: only its end is missing. */
  isCopied = false;
  /** UIDs that a COPY or MOVE names. */
  sources: readonly number[] | undefined;
  /** The answer, found out without running it again: whole lines. */
  verdict: string | undefined;
  #words: Word[] | undefined;
  #wanted: { content: boolean; flags: boolean; uid: boolean; modseq: boolean } | undefined;

  constructor(head: CommandHead) {
    this.tag = head.tag;
    this.name = head.name;
    this.row = rowOf(head.name);
    this.#argsAt = head.at;
  }

  /** Adds what the client has said of it. */
  add(segment: Segment): void {
    this.segments.push(segment);
    this.size += segment.bytes.length;
    if (this.size > MAX_KEPT_COMMAND) this.kept = false;
    this.#words = undefined;
  }

  /** Its arguments as far as they are here. */
  get words(): readonly Word[] {
    this.#words ??= readWords(this.text, this.#argsAt);
    return this.#words;
  }

  /** Its first line, or all of it when that has no literal; latin1. */
  get text(): string {
    if (this.segments.length <= 1 || this.row.kind === 'append')
      return this.segments[0]?.bytes.toString('latin1') ?? '';
    return Buffer.concat(this.segments.map(({ bytes }) => bytes)).toString('latin1');
  }

  /** All its octets are over there. */
  get isSent(): boolean {
    return this.complete && this.sent === this.segments.length;
  }

  /** Octets that wait. */
  get waiting(): number {
    let sum = 0;
    for (let at = this.sent; at < this.segments.length; at++) sum += this.segments[at]?.bytes.length ?? 0;
    return sum;
  }

  /** `+` that are due for what was written. */
  get due(): number {
    let sum = this.row.kind === 'idle' && this.sent > 0 ? 1 : 0;
    for (let at = 0; at < this.sent; at++) if (this.segments[at]?.sync) sum++;
    return sum;
  }

  /** Back to where nothing of it has been written, for another far session. */
  rewind(): void {
    this.sent = 0;
    this.got = 0;
    this.answer = [];
    this.answerSize = 0;
    this.rewritten = undefined;
    this.again = true;
  }

  /** The first line with another message set in place of its own. */
  withSet(set: string): Buffer {
    const line = (this.segments[0] as Segment).bytes.toString('latin1');
    const word = this.words[0] as Word;
    return Buffer.from(line.slice(0, word.from) + set + line.slice(word.to), 'latin1');
  }

  /** Whether a FETCH response's first line answers this FETCH, and is not only told by the way. */
  answers(line: string): boolean {
    if (fetchHasContent(line)) return true;
    const wanted = this.#wants();
    if (wanted.content) return false;
    if (wanted.flags && fetchFlags(line) === undefined) return false;
    return (!wanted.uid || fetchUid(line) !== 0) && (!wanted.modseq || /MODSEQ/i.test(line));
  }

  #wants(): { content: boolean; flags: boolean; uid: boolean; modseq: boolean } {
    if (this.#wanted !== undefined) return this.#wanted;
    const items = this.text.slice(this.words[0]?.to ?? 0).toUpperCase();
    this.#wanted = {
      content: /[A-Z]/.test(items.replace(/\b(?:FLAGS|UID|MODSEQ|CHANGEDSINCE|VANISHED)\b/g, '')),
      flags: /\bFLAGS\b/.test(items),
      uid: /\bUID\b/.test(items),
      modseq: /MODSEQ/.test(items),
    };
    return this.#wanted;
  }
}

/** A question of our own: its answers are for nobody else. */
export interface Own {
  readonly tag: string;
  /** Looks at a response's first line while it is this question's turn: `drop` what answers it. */
  readonly hear: (line: Buffer) => 'drop' | 'pass';
  readonly end: (status: string, line: Buffer) => void;
}

/** Whether it is a client's command. */
export function isFlight(one: Flight | Own | undefined): one is Flight {
  return one instanceof Flight;
}

/** The end of a command whose messages another client has removed (RFC 5530). */
export function gone(flight: Flight): string {
  return `${flight.tag} NO [EXPUNGEISSUED] Some of the messages no longer exist\r\n`;
}
