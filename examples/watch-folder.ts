/**
 * Runs a command for every message that arrives: `npx tsx examples/watch-folder.ts HOST MAILBOX COMMAND [ARGUMENT…]`
 *
 * The message is the command's standard input. The far side pushes (IDLE), so nothing polls. When the link is lost it is dialled
 * again, and what arrived meanwhile is handled then. Ends on SIGINT or SIGTERM.
 *
 * POSTERN_SSH_CONFIG names another ssh_config.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectImap, linkFault } from '@postern/imapflow';
import type { ImapFlow } from 'imapflow';

const [host, mailbox, command, ...args] = process.argv.slice(2);
if (host === undefined || mailbox === undefined || command === undefined) {
  console.error('usage: watch-folder.ts HOST MAILBOX COMMAND [ARGUMENT...]');
  process.exit(64);
}
const sshConfig = process.env.POSTERN_SSH_CONFIG;
const stopping = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stopping.abort());

async function act(source: Buffer): Promise<void> {
  const child = spawn(command as string, args, { stdio: ['pipe', 'inherit', 'inherit'] });
  child.stdin.on('error', () => {});
  child.stdin.end(source);
  await once(child, 'close');
}

/** The first UID not handled yet; kept over lost links. */
let next: number | undefined;

/** Handles what is new until the connection ends. */
async function watch(imap: ImapFlow): Promise<void> {
  const selected = await imap.mailboxOpen(mailbox as string, { readOnly: true });
  next ??= selected.uidNext;
  let arrived = true;
  let wake = (): void => {};
  imap.on('exists', () => {
    arrived = true;
    wake();
  });
  imap.once('close', () => wake());
  console.log(`watching ${mailbox} on ${host}`);
  while (imap.usable) {
    if (!arrived) {
      const woken = new Promise<void>((resolve) => {
        wake = resolve;
      });
      await Promise.race([woken, imap.idle()]);
      continue;
    }
    arrived = false;
    for (const message of await imap.fetchAll(`${next}:*`, { source: true }, { uid: true })) {
      // `n:*` names the last message even when its UID is below n (RFC 3501 §6.4.8).
      if (message.uid < next || message.source === undefined) continue;
      await act(message.source);
      next = message.uid + 1;
    }
  }
}

while (!stopping.signal.aborted) {
  try {
    const resolve = sshConfig === undefined ? {} : { resolve: { sshConfig } };
    const imap = await connectImap({ host, signal: stopping.signal, ...resolve });
    await watch(imap).catch((error) => {
      if (imap.usable) throw error;
    });
    if (!stopping.signal.aborted) console.error(linkFault(imap)?.message ?? 'the connection ended');
  } catch (error) {
    if (stopping.signal.aborted) break;
    console.error(error instanceof Error ? error.message : error);
    await sleep(10_000, undefined, { signal: stopping.signal }).catch(() => {});
  }
}
