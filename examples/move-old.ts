/**
 * Moves mail older than so many days into one archive folder per year: `npx tsx examples/move-old.ts HOST DAYS [MAILBOX [ARCHIVE]]`
 *
 * Unread and flagged mail stays. Over there only (MOVE, RFC 6851): no message crosses the line.
 *
 * POSTERN_SSH_CONFIG names another ssh_config.
 */
import { connectImap } from '@postern/imapflow';

const [host, days, mailbox = 'INBOX', archive = 'Archive'] = process.argv.slice(2);
if (host === undefined || !/^\d+$/.test(days ?? '')) {
  console.error('usage: move-old.ts HOST DAYS [MAILBOX [ARCHIVE]]');
  process.exit(64);
}
const sshConfig = process.env.POSTERN_SSH_CONFIG;
const imap = await connectImap({ host, ...(sshConfig === undefined ? {} : { resolve: { sshConfig } }) });
await imap.mailboxOpen(mailbox);

const before = new Date(Date.now() - Number(days) * 86_400_000);
const old = (await imap.search({ before, seen: true, flagged: false }, { uid: true })) || [];
const byYear = new Map<number, number[]>();
if (old.length > 0) {
  for (const { uid, internalDate } of await imap.fetchAll(old, { internalDate: true }, { uid: true })) {
    const year = new Date(internalDate ?? before).getUTCFullYear();
    byYear.set(year, [...(byYear.get(year) ?? []), uid]);
  }
}
const delimiter = (await imap.list())[0]?.delimiter ?? '/';
for (const [year, uids] of [...byYear].sort(([a], [b]) => a - b)) {
  const folder = [archive, String(year)].join(delimiter);
  await imap.mailboxCreate(folder);
  await imap.messageMove(uids, folder, { uid: true });
  console.log(`${uids.length} to ${folder}`);
}
if (byYear.size === 0) console.log(`nothing is older than ${days} days`);
await imap.logout();
