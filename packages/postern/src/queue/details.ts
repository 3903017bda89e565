/** One entry with its header, as `postern queue show` gives it. */
import { type EntryId, type JournalRecord, printable, replyText, type Spool } from '@postern/core';
import { readJournal } from '@postern/spool';
import { formatQueue } from './format.ts';
import type { QueueRow } from './row.ts';

/** Octets of a header that are shown. */
const HEADER_MAX = 64 * 1024;

/** One entry as `postern queue show --json` gives it. */
export interface QueueDetails extends QueueRow {
  /** The message's header, LF line ends; not escaped. */
  readonly header: string;
  /** What happened to it, in order; `at` is wall clock, ms. */
  readonly journal: readonly JournalRecord[];
}

/** Reads header and journal of an entry. Rejects with a `SpoolError`. */
export async function detailsOf(row: QueueRow, o: { spool: Spool; dir: string }): Promise<QueueDetails> {
  const id = row.id as EntryId;
  const journal = await readJournal({ dir: o.dir, id });
  return { ...row, header: await readHeader(o.spool.read(id)), journal };
}

async function readHeader(message: AsyncIterable<Uint8Array>): Promise<string> {
  let head = '';
  for await (const chunk of message) {
    head += Buffer.from(chunk).toString('latin1');
    if (head.length >= HEADER_MAX || head.includes('\r\n\r\n') || head.startsWith('\r\n')) break;
  }
  const end = head.startsWith('\r\n') ? 0 : head.indexOf('\r\n\r\n');
  const header = head.slice(0, end < 0 ? HEADER_MAX : end);
  return Buffer.from(header, 'latin1').toString('utf8').replaceAll('\r\n', '\n');
}

/** For people: the entry, what happened to it, and its header. */
export function formatDetails(details: QueueDetails): string[] {
  const { journal, header } = details;
  return [
    ...formatQueue([details]),
    ...journal.map((record) => `    ${new Date(record.at).toISOString()}  ${printable(formatRecord(record))}`),
    '',
    ...header.split('\n').map((line) => printable(line.replaceAll('\t', '  '), 1000)),
  ];
}

function formatRecord(record: JournalRecord): string {
  switch (record.type) {
    case 'attempt':
      return `attempt ${record.n} via ${record.host}: ${record.to.map((to) => `<${to}>`).join(', ')}`;
    case 'outcome': {
      const { outcome } = record;
      const reply = 'reply' in outcome && outcome.reply !== undefined ? ` (${replyText(outcome.reply)})` : '';
      return `<${record.to}> ${outcome.type}${reply}`;
    }
    case 'next':
      return `next ${new Date(record.due).toISOString()}: ${record.reason}`;
    case 'hold':
      return `held: ${record.reason}`;
    case 'release':
      return 'released';
    case 'notifying':
      return `${record.kind} notification ${record.dsn} begun`;
    case 'notified':
      return `${record.kind} notification ${record.dsn} for ${record.to.map((to) => `<${to}>`).join(', ')}`;
    default:
      return (record as { type: string }).type;
  }
}
