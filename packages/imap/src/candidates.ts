/** Finding an imapd on the far side: one exec that starts the first one there is, and says which. */
import { quote } from '@postern/core';
import { isMark } from './fence.ts';

/** The commands looked for, in this order. The first word is searched in PATH, then each is started as it stands. */
export const CANDIDATES: readonly string[] = [
  'imapd',
  '/usr/lib/dovecot/imap',
  '/usr/libexec/dovecot/imap',
  '/usr/local/libexec/dovecot/imap',
  '/opt/homebrew/libexec/dovecot/imap',
  'doveadm exec imap',
  'imap4d --inetd --preauth',
];

const MARK = 'postern-imapd';

/**
 * The command line that starts the first candidate at or after index `from`, printing `postern-imapd INDEX` before. Exit status
 * 127 and no such line: there is none. Holds no `!`, backslash, newline or single quote, so that csh and fish take it too.
 */
export function probeCommand(from: number): string {
  const tries = CANDIDATES.map((candidate, index) => (index < from ? '' : `try ${index} ${candidate}; `)).join('');
  const script =
    `try() { n=$1; shift; command -v "$1" >/dev/null 2>&1 || return 0; echo ${MARK} $n; exec "$@"; }; ` +
    `PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; ${tries}exit 127`;
  return `exec sh -c ${quote(script)}`;
}

/** Which candidate a probe started, from the lines before the greeting; undefined when none. */
export function probedIndex(lines: readonly string[]): number | undefined {
  for (const line of lines) {
    const index = new RegExp(`${MARK} (\\d+)\\s*$`).exec(line)?.[1];
    if (index !== undefined && Number(index) < CANDIDATES.length) return Number(index);
  }
  return undefined;
}

/** Lines before the greeting that are not our own. */
export function withoutMark(lines: readonly string[]): readonly string[] {
  return lines.filter((line) => !line.startsWith(`${MARK} `) && !isMark(line));
}
