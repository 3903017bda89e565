/** Rows of the queue as lines for people. */
import { printable, type WaitingFor } from '@postern/core';
import { columns } from '../base/text.ts';
import type { QueueRow } from './row.ts';

/** What stands behind "waits for". */
const WAITS: Readonly<Record<WaitingFor, string>> = {
  channel: 'a channel',
  receipt: 'what became of an earlier attempt',
  turn: 'the messages before it',
  room: 'the far side to take more octets',
  exit: 'the far command to end',
  greeting: 'the greeting',
  hello: 'the reply to EHLO',
  starttls: 'the reply to STARTTLS',
  auth: 'the reply to AUTH',
  reset: 'the reply to RSET',
  mail: 'the reply to MAIL',
  rcpt: 'the reply to RCPT',
  data: 'the reply to DATA',
  final: 'the reply to the end of data',
  noop: 'the reply to NOOP',
  quit: 'the reply to QUIT',
};

/** The queue for people: one line an entry, one more for what it waits for, one for each recipient. `now` is the wall clock, ms. */
export function formatQueue(rows: readonly QueueRow[], now: number = Date.now()): string[] {
  if (rows.length === 0) return ['the queue is empty'];
  return rows.flatMap((row) => {
    const when = row.next === null ? '' : `  next ${row.next}`;
    const head = `${row.id}  ${row.state}  ${formatSize(row.size)}  from <${printable(row.from)}>  arrived ${row.arrived}${when}`;
    const why = row.reason === '' ? [] : [`    ${printable(row.reason)}`];
    const waits =
      // A daemon of an older release says nothing of it.
      row.waits === undefined ? [] : [`    waits for ${WAITS[row.waits.for]} since ${seconds(row.waits.since, now)}`];
    const to = columns(
      row.recipients.map(({ address, host, outcome, reply }) => [
        `    to <${printable(address)}>`,
        host === null ? 'no route' : `via ${host}`,
        [outcome ?? 'not tried', printable(reply ?? '')].join(' ').trim(),
      ]),
    );
    return [head, ...why, ...waits, ...to];
  });
}

function seconds(since: string, now: number): string {
  return `${Math.max(0, Math.round((now - Date.parse(since)) / 1000))} s`;
}

function formatSize(octets: number): string {
  if (octets < 1024) return `${octets} B`;
  return octets < 1024 ** 2 ? `${(octets / 1024).toFixed(1)} KiB` : `${(octets / 1024 ** 2).toFixed(1)} MiB`;
}
