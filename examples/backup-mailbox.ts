/**
 * Backs a mailbox up to a local Maildir, with progress: `npx tsx examples/backup-mailbox.ts HOST MAILDIR [MAILBOX]`
 *
 * HOST is an SSH host as ssh knows it; nothing needs to run here, and no password is asked for. Run it again and only what is new
 * is fetched. A message is complete or absent: it is written to `tmp` and renamed, as Maildirs want it.
 *
 * POSTERN_SSH_CONFIG names another ssh_config.
 */
import { mkdir, readdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connectImap } from '@postern/imapflow';

const [host, maildir, mailbox = 'INBOX'] = process.argv.slice(2);
if (host === undefined || maildir === undefined) {
  console.error('usage: backup-mailbox.ts HOST MAILDIR [MAILBOX]');
  process.exit(64);
}
const sshConfig = process.env.POSTERN_SSH_CONFIG;
const imap = await connectImap({ host, ...(sshConfig === undefined ? {} : { resolve: { sshConfig } }) });
const selected = await imap.mailboxOpen(mailbox, { readOnly: true });

for (const dir of ['tmp', 'new', 'cur']) await mkdir(join(maildir, dir), { recursive: true });
// UIDs name a message for good as long as UIDVALIDITY stays (RFC 3501 §2.3.1.1).
const name = (uid: number): string => `${selected.uidValidity}.${uid}.postern`;
const present = new Set((await readdir(join(maildir, 'cur'))).map((file) => file.split(':')[0]));
const uids = (await imap.search({ all: true }, { uid: true })) || [];
const missing = uids.filter((uid) => !present.has(name(uid)));
const letters: Record<string, string> = { '\\Draft': 'D', '\\Flagged': 'F', '\\Answered': 'R', '\\Seen': 'S' };

let done = 0;
if (missing.length > 0) {
  for await (const message of imap.fetch(missing, { source: true, flags: true }, { uid: true })) {
    if (message.source === undefined) continue;
    const flags = [...(message.flags ?? [])].map((flag) => letters[flag] ?? '').sort();
    const temporary = join(maildir, 'tmp', name(message.uid));
    await writeFile(temporary, message.source);
    await rename(temporary, join(maildir, 'cur', `${name(message.uid)}:2,${flags.join('')}`));
    done += 1;
    if (process.stderr.isTTY || done === missing.length) process.stderr.write(`\r${done} of ${missing.length}`);
  }
  process.stderr.write('\n');
}
await imap.logout();
console.log(`${done} new, ${uids.length} in all`);
