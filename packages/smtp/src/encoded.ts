/** A message as its server can take it: encoded on the way (RFC 6152 §3, RFC 2045 §6), the entry in the spool stays as it is. */
import { type Entry, type Extensions, fitted, isFit, surveyMessage } from '@postern/core';

/** True when a server cannot be given the entry as it is: it has lines over 998 octets, or octets above 127 for one without 8BITMIME. */
export function wantsEncoding({ envelope }: Entry, extensions: Extensions | undefined): boolean {
  return envelope.longLines === true || wantsSevenBit(envelope, extensions);
}

function wantsSevenBit(envelope: Entry['envelope'], extensions: Extensions | undefined): boolean {
  return envelope.body === '8BITMIME' && !envelope.smtputf8 && extensions?.eightBitMime === false;
}

/**
 * The entry with what the server cannot be given encoded, in memory bounded whatever its size; the entry itself where all that would have to change is the long lines of something signed:
 * the server is the judge of them. As Postfix does, signed 8-bit text is encoded where there is no 8BITMIME: the signature is lost, and the letter arrives.
 * Reads the message twice: its size is announced before it is sent. Rejects when the message cannot be read.
 */
export async function encoded(entry: Entry, extensions: Extensions | undefined): Promise<Entry> {
  const sevenBit = wantsSevenBit(entry.envelope, extensions);
  const survey = surveyMessage({ sevenBit });
  for await (const chunk of entry.open()) survey.push(chunk);
  const plan = survey.finish();
  if (isFit(plan)) return entry;
  const open = (): AsyncIterable<Uint8Array> => fitted(entry.open(), plan);
  let size = 0;
  for await (const chunk of open()) size += chunk.length;
  const { longLines: _, ...envelope } = entry.envelope;
  return { ...entry, size, open, envelope: sevenBit ? { ...envelope, body: '7BIT' } : envelope };
}
