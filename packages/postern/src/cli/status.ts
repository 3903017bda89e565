import { printable } from '@postern/core';
import type { DaemonStatus } from '../daemon/control.ts';
import { askDaemon, type Context, columns, configOf, show } from './context.ts';

/** `postern status`. */
export async function status(context: Context): Promise<void> {
  const answer = (await askDaemon(configOf(context), 'status')) as DaemonStatus;
  show(context, answer, () => formatStatus(answer));
}

function formatStatus({ pid, startedAt, imap, smtp, hosts, queue }: DaemonStatus): string[] {
  const waiting = Object.values(queue).reduce((sum, count) => sum + count, 0);
  const states = Object.entries(queue).flatMap(([state, count]) => (count === 0 ? [] : [`${count} ${state}`]));
  return [
    `postern ${pid}, up since ${startedAt}`,
    `imap   ${imap.listen.join(' ') || 'off'}  (${imap.sessions} sessions)`,
    `smtp   ${smtp.listen.join(' ') || 'off'}  (${smtp.sessions} sessions)`,
    `queue  ${waiting === 0 ? 'empty' : states.join(', ')}`,
    ...columns(
      hosts.map((host) => [
        `host   ${printable(host.host)}`,
        printable(host.destination),
        host.rttMs === undefined ? host.state : `${host.state}, ${host.rttMs} ms`,
        `${host.spares} spare`,
      ]),
    ),
    ...hosts.flatMap(({ host, error, fix, retryAt }) => {
      if (error === undefined) return [];
      const again = retryAt === undefined ? 'no redial until something changes' : `redial ${retryAt}`;
      return [
        `  ${printable(host)}: ${printable(error)}; ${again}`,
        ...(fix === undefined ? [] : [`    fix: ${printable(fix)}`]),
      ];
    }),
  ];
}
