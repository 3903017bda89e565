/** Rows of the queue as lines for people. */
import { printable } from '@postern/core';
import { columns } from '../base/text.ts';
import type { QueueRow } from './row.ts';

/** The queue for people: one line an entry, one more for each recipient. */
export function formatQueue(rows: readonly QueueRow[]): string[] {
  if (rows.length === 0) return ['the queue is empty'];
  return rows.flatMap((row) => {
    const when = row.next === null ? '' : `  next ${row.next}`;
    const head = `${row.id}  ${row.state}  ${formatSize(row.size)}  from <${printable(row.from)}>  arrived ${row.arrived}${when}`;
    const why = row.reason === '' ? [] : [`    ${printable(row.reason)}`];
    const to = columns(
      row.recipients.map(({ address, host, outcome, reply }) => [
        `    to <${printable(address)}>`,
        host === null ? 'no route' : `via ${host}`,
        [outcome ?? 'not tried', printable(reply ?? '')].join(' ').trim(),
      ]),
    );
    return [head, ...why, ...to];
  });
}

function formatSize(octets: number): string {
  if (octets < 1024) return `${octets} B`;
  return octets < 1024 ** 2 ? `${(octets / 1024).toFixed(1)} KiB` : `${(octets / 1024 ** 2).toFixed(1)} MiB`;
}
