import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Gate, SmtpServer } from '@postern/gate';
import { startPostfix, startRig } from '@postern/testkit/rig';
import { Arrivals } from './arrivals.ts';

/** The recipient of everything. */
export const RECIPIENT = 'gate@gate.test';

/** A gate with one SMTP server that takes mail durably and spends nothing on delivering it. */
export interface FarMail {
  readonly gate: Gate;
  readonly server: SmtpServer;
  readonly arrivals: Arrivals;
  /** Empties its queue. */
  clear(): Promise<void>;
}

/** Exim freezes what it takes; Postfix throws it away after queueing. */
export async function startFarMail(kind: SmtpServer['kind']): Promise<FarMail> {
  // Exim 4.96 crashes on an ACL of several lines that is written down in place; one that is expanded is fine.
  const freeze = String.raw`"${'$'}{if eq{1}{1}{accept\n control = freeze/no_tell}}"`;
  const exim = { settings: { queue_only: 'true', acl_smtp_data: freeze } };
  const gate = await startRig({ imapd: false, smtp: kind === 'exim' ? exim : false });
  const server = gate.smtp ?? (await startPostfix(gate, { settings: { virtual_transport: 'discard:' } }));
  const clear = async (): Promise<void> => {
    if (kind === 'postfix') return;
    const input = join(server.spool, 'input');
    for (const name of await readdir(input).catch(() => [])) await rm(join(input, name), { force: true });
  };
  return { gate, server, arrivals: new Arrivals(server), clear };
}
