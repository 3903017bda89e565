/** sd_notify(3), without a library. */
import { execFile } from 'node:child_process';

/** Perl is part of every Debian; Node cannot send a datagram to a Unix socket. */
const PERL_SEND = `use Socket; my ($p, $m) = @ARGV; $p =~ s/^@/\\0/; socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or exit 1;
send($s, $m, 0, pack_sockaddr_un($p)) or exit 1;
# systemd looks up the sender's unit by its process id, so it must still be there.
select(undef, undef, undef, 0.5);`;

/**
 * Tells the service manager (sd_notify(3)) when `NOTIFY_SOCKET` is set, e.g. `READY=1`. The message is sent by a child process, so a unit
 * needs `NotifyAccess=all`. Resolves whether it was sent; never rejects.
 */
export async function notifyServiceManager(
  env: Readonly<Record<string, string | undefined>>,
  state: readonly string[],
): Promise<boolean> {
  const socket = env.NOTIFY_SOCKET;
  if (!socket) return false;
  const lines = [`MAINPID=${process.pid}`, ...state];
  return (
    (await run('systemd-notify', [`--pid=${process.pid}`, ...state], env)) ||
    (await run('perl', ['-e', PERL_SEND, '--', socket, lines.join('\n')], env))
  );
}

function run(
  command: string,
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Promise<boolean> {
  return new Promise((resolve) => {
    execFile(command, argv, { env: { ...env }, timeout: 5000 }, (error) => resolve(error === null));
  });
}
