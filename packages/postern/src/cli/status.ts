/** `postern status`. */
import { printable, sleep, systemEnv } from '@postern/core';
import { columns, formatOctets } from '../base/text.ts';
import type { DaemonStatus } from '../control/status.ts';
import { askDaemon, type Context, show } from './context.ts';

/** How often `--watch` looks, milliseconds. */
const WATCH_MS = 2000;
/** Clears a terminal and goes to its top. */
const CLEAR = '\u001b[2J\u001b[H';

/** `postern status [--watch]`. Watching ends with the daemon, or by a signal. */
export async function status(context: Context, o: { watch: boolean }): Promise<void> {
  const never = new AbortController().signal;
  for (;;) {
    const answer = (await askDaemon(context, 'status')) as DaemonStatus;
    if (o.watch && context.output.outTty && !context.options.json) context.output.out(CLEAR);
    show(context, answer, () => formatStatus(answer));
    if (!o.watch) return;
    await sleep(systemEnv, WATCH_MS, never);
  }
}

function formatStatus({
  pid,
  startedAt,
  imap,
  smtp,
  tls,
  hosts,
  smarthosts,
  forwards,
  reverses,
  queue,
  routes,
  bounces,
}: DaemonStatus): string[] {
  const waiting = Object.values(queue).reduce((sum, count) => sum + count, 0);
  const states = Object.entries(queue).flatMap(([state, count]) => (count === 0 ? [] : [`${count} ${state}`]));
  return [
    `postern ${pid}, up since ${startedAt}`,
    `imap   ${imap.listen.join(' ') || 'off'}  (${imap.sessions} sessions)`,
    `smtp   ${smtp.listen.join(' ') || 'off'}  (${smtp.sessions} sessions)`,
    ...tls.map(
      ({ certificate, fingerprint, validTo }) => `tls    ${certificate} until ${validTo}, SHA-256 ${fingerprint}`,
    ),
    `queue  ${waiting === 0 ? 'empty' : states.join(', ')}`,
    ...routes.map(({ route, host, entries, next, reason }) => {
      const way = route === null ? 'no route' : `${route} via ${host}`;
      return printable(
        `       ${way}: ${[String(entries), reason, next ? `next ${next}` : ''].filter(Boolean).join('; ')}`,
      );
    }),
    ...(bounces.messages === 0 ? [] : [`bounces ${bounces.path}  (${bounces.messages})`]),
    ...columns(
      hosts.map((host) => [
        `host   ${printable(host.host)}`,
        printable([host.destination, ...(host.hops.length === 0 ? [] : [`by ${host.hops.join(', ')}`])].join(' ')),
        host.rttMs === undefined ? host.state : `${host.state}, ${host.rttMs} ms`,
        `${host.channels} channels, ${host.spares} spare${host.carried === 0 ? '' : `, ${host.carried} carried over`}`,
      ]),
    ),
    ...hosts.flatMap(leftReceipts),
    ...smarthosts.map(({ smarthost, state, error }) =>
      printable(`smarthost ${smarthost}  ${state}${error === undefined ? '' : `: ${error}`}`),
    ),
    ...forwards.map(({ listen, host, to, sessions }) =>
      printable(`forward ${listen} to ${to} via ${host}  (${sessions} sessions)`),
    ),
    ...reverses.flatMap(({ host, listen, to, state, error, fix }) => [
      printable(`reverse ${host} ${listen} to ${to}  ${state}${error === undefined ? '' : `: ${error}`}`),
      ...(fix === undefined ? [] : [printable(`    fix: ${fix}`)]),
    ]),
    ...hosts.flatMap(hostFault),
  ];
}

type HostLine = DaemonStatus['hosts'][number];

function leftReceipts({ host, receipts }: HostLine): string[] {
  if (receipts === undefined || receipts.count === 0) return [];
  return [printable(`receipts ${host}  ${receipts.count} left over there, ${formatOctets(receipts.octets)}`)];
}

function hostFault({ host, error, fix, retryAt }: HostLine): string[] {
  if (error === undefined) return [];
  const again = retryAt === undefined ? 'no redial until something changes' : `redial ${retryAt}`;
  return [
    `  ${printable(host)}: ${printable(error)}; ${again}`,
    ...(fix === undefined ? [] : [`    fix: ${printable(fix)}`]),
  ];
}
