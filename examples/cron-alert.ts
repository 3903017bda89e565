/**
 * An alert from cron that is never lost: `df / | npx tsx examples/cron-alert.ts admin@example.org "disk report"`
 *
 * The message goes into Postern's spool, whether or not the daemon runs and the line is up; it leaves when both do. Exit status 0
 * means it is on the disk.
 *
 * POSTERN_SPOOL names another spool directory.
 */
import { homedir, hostname, userInfo } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { sshTransport } from '@postern/nodemailer';
import { createTransport } from 'nodemailer';

const [to, subject = 'alert'] = process.argv.slice(2);
if (to === undefined) {
  console.error('usage: cron-alert.ts ADDRESS [SUBJECT] < text');
  process.exit(64);
}
const state = process.env.XDG_STATE_HOME ?? join(homedir(), '.local/state');
const mailer = createTransport(sshTransport({ queue: process.env.POSTERN_SPOOL ?? join(state, 'postern/spool') }));
const info = await mailer.sendMail({
  from: `${userInfo().username}@${hostname()}`,
  to,
  subject: `${hostname()}: ${subject}`,
  text: await text(process.stdin),
});
console.log(info.response);
mailer.close();
