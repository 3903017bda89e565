/** What a new far session says of a mailbox: its answers to our SELECT, map and flags questions, read in their order. */
import { expandSet, parseSet } from './sets.ts';
import { fetchFlags, readResponseHead } from './words.ts';

/** Most messages of a mailbox that is carried over. */
const MAX_MESSAGES = 5_000_000;

/** See the file's law. */
export class Fresh {
  count = 0;
  recent = 0;
  /** Ascending; messages behind them have no UID yet. */
  uids: number[] = [];
  isMapped = false;
  /** By far number: the flags, and the whole text between the parentheses. */
  readonly flags: Map<number, { flags: string; text: string }> = new Map();
  readonly lines: string[] = [];

  /** Reads one whole response. */
  hear(response: Buffer): void {
    const head = readResponseHead(response);
    const line = response.toString('latin1').replace(/\r?\n$/, '');
    if (head.type === 'numbered') this.#numbered(head.n, head.word, line);
    else if (head.type === 'untagged' && (head.word === 'SEARCH' || head.word === 'ESEARCH'))
      this.#map(head.word, line);
    else this.lines.push(line);
  }

  #numbered(n: number, word: string, line: string): void {
    if (word === 'EXISTS') this.count = Math.max(n, this.count);
    else if (word === 'RECENT') this.recent = n;
    else if (word === 'EXPUNGE') this.#expunge(n);
    else if (word === 'FETCH') {
      const flags = fetchFlags(line);
      const text = /^\* \d+ FETCH \((.*)\)$/i.exec(line)?.[1];
      if (flags !== undefined && text !== undefined) this.flags.set(n, { flags, text });
    }
  }

  #expunge(n: number): void {
    this.count--;
    if (n <= this.uids.length) this.uids.splice(n - 1, 1);
    // Numbers have moved: what was heard of flags is told again by the next change, or is not news.
    this.flags.clear();
  }

  #map(word: string, line: string): void {
    const uids = word === 'SEARCH' ? listed(line) : allOf(line);
    this.isMapped = uids !== undefined && uids.length === this.count;
    this.uids = uids ?? [];
  }
}

/** The numbers of `* SEARCH …`. */
export function listed(line: string): number[] {
  const numbers = line.replace(/\(.*/, '').trim().split(' ').slice(2).map(Number);
  return numbers.filter((n) => n > 0).sort((a, b) => a - b);
}

/** The ALL of `* ESEARCH …`; empty when there is none. */
export function allOf(line: string): number[] | undefined {
  const text = / ALL ([\d:,]+)/i.exec(line)?.[1];
  const set = text === undefined ? [] : parseSet(text);
  return set === undefined ? undefined : expandSet(set, MAX_MESSAGES);
}
