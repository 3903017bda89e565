/** How mail goes into a target is told by its name; no address becomes an option or a command over there. */
import { type ForwardPath, localPartOf, quoteAll, type ReversePath, type Target } from '@postern/core';

/**
 * How mail goes into a target: `smtp` and `lmtp` are spoken, `bsmtp` is written in one go for a program that answers nothing, `submit` is one message on
 * standard input with its envelope on the command line.
 */
export type MailProtocol = 'smtp' | 'lmtp' | 'bsmtp' | 'submit';

/** What a target is by its name: `exim -bS` and `rsmtp` read batches, `sendmail` without `-bs` takes one message, a Unix socket speaks LMTP. */
export function protocolOf(target: Target): MailProtocol {
  if (target.type === 'unix') return 'lmtp';
  if (target.type !== 'exec') return 'smtp';
  const words = target.command.trim().split(/\s+/);
  const program = words[0]?.split('/').at(-1) ?? '';
  if (words.includes('-bS') || program === 'rsmtp' || program === 'bsmtp') return 'bsmtp';
  const mailer = /^(sendmail|exim4?|msmtp|dma|nullmailer-inject)$/.test(program);
  return mailer && !words.includes('-bs') ? 'submit' : 'smtp';
}

/**
 * A mailbox as a command's argument: one that starts with `-` has its local part quoted, which means the same (RFC 5321 §4.1.2) and is no
 * option, not even for programs that look for options behind `--` (nullmailer 2.2).
 */
export function asArgument(path: ForwardPath | ReversePath): string {
  return path.startsWith('-') ? `"${localPartOf(path)}"${path.slice(localPartOf(path).length)}` : path;
}

/** `command` with the envelope, for `submit`. The null reverse-path is `<>`. */
export function submitCommand(command: string, o: { from: ReversePath; to: readonly ForwardPath[] }): string {
  const from = o.from === '' ? '<>' : asArgument(o.from);
  return `${command} ${quoteAll(['-f', from, '--', ...o.to.map(asArgument)])}`;
}

/**
 * `command` behind a length check on the far side: it runs only when exactly `octets` came, so a cut link never delivers half a message. Line ends
 * become LF, as programs expect on standard input. Exits with 75 when the check fails, else as `command` does.
 */
export function checkedCommand(command: string, o: { octets: number }): string {
  const script = [
    'umask 077',
    'd="$HOME/.postern"',
    'mkdir -p "$d" && f=$(mktemp "$d/in.XXXXXX") || exit 75',
    'trap "rm -f \\"$f\\"" 0',
    'cat >"$f" || exit 75',
    'if [ "$(wc -c <"$f")" -eq "$1" ]; then tr -d "\\r" <"$f" | { eval "$2"; }; else echo "cut off" >&2; exit 75; fi',
  ].join('; ');
  return quoteAll(['sh', '-c', script, 'sh', String(o.octets), command]);
}
