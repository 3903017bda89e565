/** The selected mailbox as the client knows it. */

import type { Flight } from './flight.ts';
import { Ghosts } from './ghosts.ts';
import { parseSet } from './sets.ts';
import { View } from './view.ts';
import { quoted } from './words.ts';

/** See the file's law. */
export class Mailbox {
  readonly name: string;
  readonly command: 'SELECT' | 'EXAMINE';
  readonly view: View = new View();
  readonly ghosts: Ghosts = new Ghosts();
  isReadOnly: boolean;
  uidValidity: string | undefined;
  highestModseq = 0n;
  /** Every message told in SELECT's answer has its UID. */
  isMapped = false;
  /** How often that was asked. */
  mapTries = 0;
  /** A FETCH told the client about messages whose UIDs are not known here. */
  isTouched = false;
  /** Something hangs on it that cannot be had again. */
  spoilt: string | undefined;

  constructor(flight: Flight) {
    this.name = flight.words[0]?.value ?? '';
    this.command = flight.name === 'EXAMINE' ? 'EXAMINE' : 'SELECT';
    this.isReadOnly = this.command === 'EXAMINE';
  }

  /** Reads an untagged status line, or the tagged one, of its SELECT. */
  learn(line: string): void {
    const validity = /\[UIDVALIDITY (\d+)\]/i.exec(line)?.[1];
    if (validity !== undefined) this.uidValidity = validity;
    const modseq = /\[HIGHESTMODSEQ (\d{1,19})\]/i.exec(line)?.[1];
    if (modseq !== undefined && BigInt(modseq) > this.highestModseq) this.highestModseq = BigInt(modseq);
    if (/\[READ-ONLY\]/i.test(line)) this.isReadOnly = true;
    if (/\[READ-WRITE\]/i.test(line)) this.isReadOnly = false;
  }

  /** How many messages the far side has. */
  get farCount(): number {
    return this.view.count - this.ghosts.size;
  }

  /** The command that selects it again. Undefined when it cannot be said. */
  reselect(o: { condstore: boolean }): string | undefined {
    const name = quoted(this.name);
    return name === undefined ? undefined : `${this.command} ${name}${o.condstore ? ' (CONDSTORE)' : ''}`;
  }

  /** A far side's message is gone and that may be told. Gives the client's number. */
  expunge(far: number): number {
    const n = this.ghosts.toClient(far);
    this.view.expunge(n);
    this.ghosts.told(n);
    return n;
  }

  /** UIDs are gone, and the client is told so (RFC 7162 §3.2.10). There are no ghosts. */
  vanish(set: string): void {
    for (const n of this.#named(set).reverse()) this.view.expunge(n);
    const { view } = this;
    const unnamed = this.#unnamed(set).reduce((sum, [from, to]) => sum + to - from + 1, 0);
    if (unnamed > view.count - view.known) this.isMapped = false;
    else for (let left = unnamed; left > 0; left--) view.expunge(view.count);
  }

  /** UIDs are gone, and the client may not be told yet. Gives what cannot be kept from it: messages it has only been told the number of. */
  haunt(set: string): string | undefined {
    for (const n of this.#named(set)) this.ghosts.add(n);
    const unnamed = this.#unnamed(set);
    if (unnamed.length === 0) return undefined;
    this.isMapped = false;
    return unnamed.map(([from, to]) => (from === to ? `${from}` : `${from}:${to}`)).join(',');
  }

  /** The ranges of a set of UIDs that lie behind all that are known. */
  #unnamed(set: string): [number, number][] {
    const { view } = this;
    if (view.count === view.known) return [];
    return (parseSet(set) ?? [])
      .filter(([, to]) => to > view.lastUid)
      .map(([from, to]): [number, number] => [Math.max(from, view.lastUid + 1), to]);
  }

  /** The client's numbers of the UIDs that are known, ascending. */
  #named(set: string): number[] {
    const ranges = parseSet(set) ?? [];
    const numbers: number[] = [];
    for (let n = 1; n <= this.view.known; n++) {
      const uid = this.view.uid(n);
      if (ranges.some(([from, to]) => uid >= from && uid <= to)) numbers.push(n);
    }
    return numbers;
  }
}
