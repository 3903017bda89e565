/** A message for a server without 8BITMIME: encoded on the way (RFC 6152 §3), the entry in the spool stays as it is. */
import { type Entry, type Extensions, type FitPlan, fitted, surveyMessage } from '@postern/core';

/** True when the server cannot be given the entry as it is, for want of 8BITMIME alone. */
export function wantsSevenBit({ envelope }: Entry, extensions: Extensions): boolean {
  return envelope.body === '8BITMIME' && !envelope.smtputf8 && !extensions.eightBitMime;
}

/**
 * The entry with every body above 127 encoded; the entry itself where something in it is signed, which no server without 8BITMIME can be given. Reads the message twice: its size
 * is announced before it is sent. Rejects when the message cannot be read.
 */
export async function inSevenBit(entry: Entry): Promise<Entry> {
  const survey = surveyMessage({ sevenBit: true });
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
  return { ...entry, size, open, envelope: { ...entry.envelope, body: '7BIT' } };
}
