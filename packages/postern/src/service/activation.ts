/** The first descriptor systemd hands over (sd_listen_fds(3)). */
const FIRST_FD = 3;
/** More than this is no socket activation but a stray variable. */
const FDS_MAX = 256;

/** Sockets handed over by systemd: the descriptor of the `index`th address of a socket unit with `FileDescriptorName=name`. */
export type ActivatedSockets = (name: string, index: number) => number | undefined;

/**
 * Reads what systemd handed over (`LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`; sd_listen_fds(3)). Variables meant for another process are not
 * ours. Without any, answers undefined to everything.
 */
export function activatedSockets(env: Readonly<Record<string, string | undefined>>, pid: number): ActivatedSockets {
  const count = Number(env.LISTEN_FDS);
  if (env.LISTEN_PID !== String(pid) || !Number.isInteger(count) || count < 1 || count > FDS_MAX)
    return () => undefined;
  const names = (env.LISTEN_FDNAMES ?? '').split(':');
  const byName = new Map<string, number[]>();
  for (let at = 0; at < count; at += 1) {
    const name = names[at] ?? '';
    byName.set(name, [...(byName.get(name) ?? []), FIRST_FD + at]);
  }
  return (name, index) => byName.get(name)?.[index];
}

/** The name of an IMAP endpoint's sockets, counted from 0 as the configuration has them. */
export function imapSocketName(index: number): string {
  return index === 0 ? 'imap' : `imap-${index + 1}`;
}

/** The name of the relay's sockets. */
export const SMTP_SOCKET_NAME = 'smtp';
