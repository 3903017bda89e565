/** A real OpenSMTPD on free loopback ports, with a spool of its own. */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { quoteAll } from '@postern/core';
import { GATE_HOSTNAME, type Gate, GateError, run, type SmtpServer, startServer } from '@postern/gate';
import { type InstalledOptions, installedCommand } from './as-installed.ts';

/**
 * OpenSMTPD for {@link asInstalled}, with these files of /etc. It gives its privileges up, which nobody can who has
 * none: root only.
 */
export function opensmtpd(o: {
  dir: string;
  etc: Readonly<Record<string, string>>;
  /** Where its queue lies; default in memory. */
  queue?: string;
  /** The server; default `smtpd -d`. */
  daemon?: string;
}): InstalledOptions {
  const spool = '/var/spool/smtpd';
  return {
    name: 'opensmtpd',
    dir: o.dir,
    etc: o.etc,
    passwd: ['opensmtpd:x:65534:65534::/var/lib/opensmtpd/empty:/bin/false', 'opensmtpq:x:0:0::/:/bin/false'],
    group: ['opensmtpd:x:65534:', 'opensmtpq:x:0:'],
    prepare: [
      `mkdir -p -m 711 /var/lib/opensmtpd /var/lib/opensmtpd/empty ${spool}`,
      ...(o.queue === undefined ? [] : [quoteAll(['mount', '--bind', o.queue, spool]), `chmod 711 ${spool}`]),
      'smtpd -n',
    ].join('\n'),
    daemon: o.daemon ?? 'smtpd -d',
  };
}

/** How {@link startOpensmtpd} runs it. */
export interface OpensmtpdOptions {
  /**
   * Has the file system sync whatever is written to its queue (`chattr +SD`, ext4). By itself OpenSMTPD 6.8.0p2 syncs
   * nothing before its 250. Default false.
   */
  synchronous?: boolean;
  /** A fixed port; default a free one. */
  port?: number;
}

/**
 * Starts an OpenSMTPD that takes everything and keeps it in its queue, inside the gate's directory. Root only.
 *
 * @throws GateError `bad_option` without root; `start_failed`, also where the file system cannot be told to sync.
 */
export async function startOpensmtpd(gate: Gate, o: OpensmtpdOptions = {}): Promise<Omit<SmtpServer, 'kind'>> {
  if (process.getuid?.() !== 0) throw new GateError('bad_option', 'OpenSMTPD needs root');
  const dir = join(gate.dir, 'opensmtpd');
  const queue = join(dir, 'queue');
  await mkdir(queue, { recursive: true });
  if (o.synchronous === true) {
    const { code, stderr } = await run('/usr/bin/env', ['chattr', '+SD', queue]);
    if (code !== 0) throw new GateError('start_failed', `the queue of opensmtpd cannot be synchronous: ${stderr}`);
  }
  const log = join(dir, 'log');
  const readLog = (): Promise<string> => readFile(log, 'utf8').catch(() => '');
  const server = await startServer(gate.context, {
    name: 'opensmtpd',
    port: o.port,
    log: readLog,
    async prepare(port) {
      // Its own resolver would ask the network who 127.0.0.1 is.
      const etc = { 'smtpd.conf': config(port), 'resolv.conf': 'lookup file\n' };
      const daemon = `smtpd -d -P mta >${quoteAll([log])} 2>&1`;
      return { ...(await installedCommand(opensmtpd({ dir, etc, queue, daemon }))), env: gate.context.baseEnv };
    },
  });
  return { hostname: GATE_HOSTNAME, spool: queue, log: readLog, ...server };
}

/** Without the limit it takes 100 messages a session. */
function config(port: number): string {
  return `smtp limit max-mails 1000000
listen on 127.0.0.1 port ${port} hostname ${GATE_HOSTNAME}
action "keep" relay host smtp://127.0.0.1:1
match from any for any action "keep"
`;
}
