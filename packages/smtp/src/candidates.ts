/** What may speak SMTP on a host, best first; the one place that knows. */
import { quoteAll, type Target } from '@postern/core';

/** Where mailers lie that are not in a user's PATH. */
const PATHS = '$PATH:/usr/sbin:/usr/lib:/usr/libexec:/sbin:/usr/local/sbin';
/** Programs to look for; the first of each kind is tried. */
const NETCATS: readonly string[] = ['netcat', 'nc', 'ncat'];

/** The command that lists which of the programs are there, for {@link readPrograms}. */
export function listCommand(): string {
  const script = `PATH="${PATHS}"; for p in "$@"; do w=$(command -v "$p") && echo "postern found $p $w"; done; exit 0`;
  return quoteAll(['sh', '-c', script, 'sh', ...NETCATS, 'sendmail']);
}

/** Names found over there, and where, from what {@link listCommand} printed between whatever else. */
export function readPrograms(output: string): Map<string, string> {
  const found = output.matchAll(/^postern found (\S+) ([\w./-]+)\r?$/gm);
  return new Map([...found].map(([, name = '', path = '']) => [name, path]));
}

/**
 * Netcat to its port 25 (which keeps receipts), the same by sshd itself, `sendmail -bs`, and as a last resort `sendmail -i`, whose exit status is all
 * it says.
 */
export function candidates(programs: ReadonlyMap<string, string>): Target[] {
  const netcat = NETCATS.find((name) => programs.has(name));
  const sendmail = programs.get('sendmail');
  const exec = (command: string): Target => ({ type: 'exec', command });
  return [
    ...(netcat === undefined ? [] : [exec(`${netcat} localhost ${netcat === 'netcat' ? 'smtp' : '25'}`)]),
    { type: 'tcp', host: 'localhost', port: 25 },
    ...(sendmail === undefined ? [] : [exec(`${sendmail} -bs`), exec(`${sendmail} -i`)]),
  ];
}
