/** Looks up what became of earlier attempts: each receipt is fetched once, and only what it proves is told. */
import {
  type CourierReport,
  type Entry,
  type ForwardPath,
  type Link,
  type Outcome,
  type Recipient,
  runFar,
} from '@postern/core';
import {
  fetchCommand,
  judge,
  MAX_RECEIPT_OCTETS,
  parsePlace,
  parseReceipt,
  type Receipt,
  removeCommand,
} from './receipt.ts';

/** How long a far session that goes on without its link is waited for, seconds. */
export const ORPHAN_WAIT_SECONDS = 20;
/** Room for a receipt and its trailer, octets. */
const MAX_FETCH_OCTETS = MAX_RECEIPT_OCTETS + 4096;

/** Looks up what became of earlier attempts, one fetch per receipt. */
export class Resolver {
  readonly #link: Link;
  readonly #report: CourierReport;
  readonly #receipts = new Map<string, Promise<Receipt | undefined>>();

  constructor(link: Link, report: CourierReport) {
    this.#link = link;
    this.#report = report;
  }

  /**
   * Reports what is known of an entry's unresolved recipients, and returns those to send to: the new ones, those that were proven not to
   * be accepted, and those of whom nothing can be proven, unless the entry asks for proof. A far session that has not ended keeps its recipients uncertain.
   */
  async prepare(entry: Entry): Promise<readonly Recipient[]> {
    const known = new Map<ForwardPath, Outcome>();
    for (const to of entry.needsProof ?? []) known.set(to, { type: 'uncertain' });
    // A later attempt was made knowing the earlier ones, so it is asked first.
    for (const { receipt, recipients } of entry.unresolved.toReversed()) {
      const place = parsePlace(receipt);
      if (place === undefined) continue;
      const findings = judge(await this.#fetch(place.name), { place, recipients });
      for (const [at, to] of recipients.entries()) {
        const finding = findings[at];
        const told = known.get(to);
        if (told !== undefined && told.type !== 'uncertain') continue;
        if (finding?.type === 'known') known.set(to, finding.outcome);
        if (finding?.type === 'running' || (finding?.type === 'unknown' && told !== undefined))
          known.set(to, { type: 'uncertain', receipt });
        if (finding?.type === 'absent') {
          known.delete(to);
          await this.#report.notAccepted?.(entry.id, to);
        }
      }
    }
    const { recipients } = entry.envelope;
    const told = recipients.filter(({ to }) => known.has(to));
    if (told.length > 0) await this.#report.attempting(entry.id, {});
    for (const { to } of told) {
      const outcome = known.get(to);
      if (outcome !== undefined) await this.#report.outcome(entry.id, to, outcome);
    }
    return recipients.filter(({ to }) => !known.has(to));
  }

  /** Removes what was fetched and has ended. Best effort. */
  async forget(): Promise<void> {
    const names: string[] = [];
    for (const [name, receipt] of this.#receipts) {
      const found = await receipt.catch(() => undefined);
      if (found?.ended === true) names.push(name);
    }
    if (names.length > 0) await this.#run(removeCommand(names));
  }

  #fetch(name: string): Promise<Receipt | undefined> {
    const known = this.#receipts.get(name);
    if (known !== undefined) return known;
    const fetched = this.#run(fetchCommand(name, { seconds: ORPHAN_WAIT_SECONDS })).then((bytes) =>
      bytes === undefined ? undefined : parseReceipt(bytes),
    );
    this.#receipts.set(name, fetched);
    return fetched;
  }

  /** Output of a far command, or undefined when it failed. Rejects when the link is lost. */
  async #run(command: string): Promise<Buffer | undefined> {
    const far = await runFar(this.#link, command, { signal: this.#report.signal, maxOctets: MAX_FETCH_OCTETS });
    return far.exit.type === 'exit' && far.exit.code === 0 && !far.cut ? far.output : undefined;
  }
}
