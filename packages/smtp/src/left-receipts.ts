/** Receipts that lie over there and belong to no session any more: what they are, and how much they take. */
import { type Link, quoteAll, runFar } from '@postern/core';
import { DIRECTORY } from './receipt.ts';

/** Receipts that were left over. */
export interface LeftReceipts {
  readonly count: number;
  readonly octets: number;
}

/** A receipt is removed with its session, or when it was asked for; what is older than an hour was left behind. One line for each: its size. */
const LOOK = `find "${DIRECTORY}" -type f -mmin +60 -exec ls -ln {} + 2>/dev/null`;
/** Octets of a listing that are read: some 10,000 receipts. */
const MAX_LISTING = 1_048_576;

/** Looks for them. A far side that cannot tell has none. Rejects with `LinkError` when the link is lost, and with the signal's reason. */
export async function findLeftReceipts(link: Link, o: { signal: AbortSignal }): Promise<LeftReceipts> {
  const { output } = await runFar(link, quoteAll(['sh', '-c', LOOK]), { ...o, maxOctets: MAX_LISTING });
  const sizes = output.toString('latin1').match(/^-\S+ +\d+ +\d+ +\d+ +\d+(?= )/gm) ?? [];
  return {
    count: sizes.length,
    octets: sizes.reduce((sum, line) => sum + Number(/\d+$/.exec(line)?.[0] ?? 0), 0),
  };
}
