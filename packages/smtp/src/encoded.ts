/** A message as its server can take it: encoded on the way (RFC 6152 §3, RFC 2045 §6), the entry in the spool stays as it is. */
import { type Entry, type Extensions, type FitPlan, fitted, surveyMessage } from '@postern/core';

/** True when a server cannot be given the entry as it is: it has lines over 998 octets, or octets above 127 for one without 8BITMIME. */
export function wantsEncoding({ envelope }: Entry, extensions: Extensions | undefined): boolean {
  return envelope.longLines === true || wantsSevenBit(envelope, extensions);
}

function wantsSevenBit(envelope: Entry['envelope'], extensions: Extensions | undefined): boolean {
  return envelope.body === '8BITMIME' && !envelope.smtputf8 && extensions?.eightBitMime === false;
}

/**
 * The entry with every body encoded that the server cannot be given; the entry itself where what would have to change is signed or cannot be encoded: the server is the judge of it.
 * Reads the message twice: its size is announced before it is sent. Rejects when the message cannot be read.
 */
export async function encoded(entry: Entry, extensions: Extensions | undefined): Promise<Entry> {
  const sevenBit = wantsSevenBit(entry.envelope, extensions);
  const survey = surveyMessage({ sevenBit });
  let plan: FitPlan;
  try {
    for await (const chunk of entry.open()) survey.push(chunk);
    plan = survey.finish();
  } catch (error) {
    // A header beyond any bound: left as it is, and refused as before.
    if (error instanceof RangeError) return entry;
    throw error;
  }
  if (plan.fault !== undefined) return entry;
  const open = (): AsyncIterable<Uint8Array> => fitted(entry.open(), plan);
  let size = 0;
  for await (const chunk of open()) size += chunk.length;
  return { ...entry, size, open, envelope: { ...entry.envelope, ...(sevenBit ? { body: '7BIT' as const } : {}) } };
}
