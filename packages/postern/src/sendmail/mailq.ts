/** The queue as mailq prints it. */
import { printable } from '@postern/core';

/** One entry as `postern queue list --json` gives it. */
export interface QueueRow {
  readonly id: string;
  readonly from: string;
  readonly size: number;
  readonly state: string;
  /** ISO 8601. */
  readonly arrived: string;
  readonly reason: string;
  readonly recipients: readonly { readonly address: string }[];
}

/** The queue as `mailq` prints it, in Postfix's columns, which log checkers and prompts know. Ends in a newline. */
export function formatMailq(rows: readonly QueueRow[]): string {
  if (rows.length === 0) return 'Mail queue is empty\n';
  const entries = rows.map((row) => {
    // `!`: on hold, as Postfix marks it.
    const id = `${row.id}${row.state === 'held' ? '!' : ''}`.padEnd(20);
    const first = `${id} ${String(row.size).padStart(7)} ${arrival(row.arrived)}  ${printable(row.from || 'MAILER-DAEMON')}`;
    const why = row.reason === '' ? [] : [`(${printable(row.reason)})`];
    return [first, ...why, ...row.recipients.map(({ address }) => `${' '.repeat(49)}${printable(address)}`), ''].join(
      '\n',
    );
  });
  const kilobytes = Math.ceil(rows.reduce((sum, row) => sum + row.size, 0) / 1024);
  const count = `-- ${kilobytes} Kbytes in ${rows.length} Request${rows.length === 1 ? '' : 's'}.`;
  return `${'-Queue ID-'.padEnd(20)} --Size-- ----Arrival Time---- -Sender/Recipient-------\n${entries.join('\n')}\n${count}\n`;
}

function arrival(iso: string): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return ''.padEnd(19);
  const [day = '', month = '', number = ''] = date.toString().split(' ');
  return `${day} ${month} ${number} ${date.toTimeString().slice(0, 8)}`;
}
