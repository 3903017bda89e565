/** A far session that is gone must be proven over before anything it may still do is looked at: it leaves its process id over there. */
import { deadline, type Env, type Link, quote } from '@postern/core';
import { FENCE_MS } from './limits.ts';

/** What the far side prints when it could note the session. */
const MARK = 'postern-session';

/**
 * Notes the process group in a 0700 directory under the token and takes the note away when the command has ended. sshd makes every command
 * without a terminal the leader of a group of its own; what is none is not noted. No `!`, backslash, newline or single quote: csh and fish take it too.
 */
const NOTED = [
  'd="$HOME/.postern/sessions"; f="$d/$0"',
  `if (kill -0 -$$ && umask 077 && mkdir -p "$d" && echo $$ >"$f") 2>/dev/null; then echo ${MARK}; trap : HUP TERM; sh -c "$1"; s=$?; rm -f "$f"; exit $s; fi`,
  'exec sh -c "$1"',
].join('; ');

/** Ends what is left of the session and waits for that. 0: it is over. */
const ENDED = [
  'f="$HOME/.postern/sessions/$0"; n=0',
  'test -f "$f" || exit 0; p=0; read p 2>/dev/null <"$f"; test -f "$f" || exit 0; test "$p" -gt 1 || exit 1',
  'kill -TERM -$p 2>/dev/null',
  'while test -f "$f" && kill -0 -$p 2>/dev/null; do n=$((n+1)); test $n -lt 80 || exit 1; test $n = 40 && kill -KILL -$p; sleep 0.1; done',
  'rm -f "$f"; exit 0',
].join('; ');

/** `command` for the far login shell, noted under `token` (letters and digits). */
export function notedCommand(command: string, token: string): string {
  return `exec sh -c ${quote(NOTED)} ${token} ${quote(command)}`;
}

/** Whether the lines before a greeting tell that the session is noted. */
export function isNoted(lines: readonly string[]): boolean {
  return lines.some(isMark);
}

/** A line before the greeting that is the note's. */
export function isMark(line: string): boolean {
  return line.trim() === MARK;
}

/** Ends the session noted under `token`, over a link that is up again. True when it is certainly over. Never rejects. */
export async function endNoted(link: Link, token: string, o: { env: Env; signal: AbortSignal }): Promise<boolean> {
  try {
    using limit = deadline(o.env, FENCE_MS, { parent: o.signal, reason: () => new Error('the fence took too long') });
    const command = `exec sh -c ${quote(ENDED)} ${token}`;
    const channel = await link.open({ type: 'exec', command }, { signal: limit.signal });
    channel.stream.on('error', () => {}).resume();
    channel.stream.end();
    const onAbort = (): void => channel.abort(new Error('the fence took too long'));
    limit.signal.addEventListener('abort', onAbort, { once: true });
    const exit = await channel.exit;
    return exit.type === 'exit' && exit.code === 0;
  } catch {
    return false;
  }
}
