/**
 * A newsletter to many, one message each, with progress: `npx tsx examples/newsletter.ts HOST ADDRESSES.txt MESSAGE.txt`
 *
 * HOST is an SSH host as ssh knows it; nothing needs to run here. All messages share one session over one link, so a slow line
 * costs its bandwidth and not a round trip per message. Refused addresses are listed at the end.
 *
 * POSTERN_SSH_CONFIG names another ssh_config, POSTERN_FROM the sender.
 */
import { readFile } from 'node:fs/promises';
import { sshTransport, TransportError } from '@postern/nodemailer';
import { createTransport } from 'nodemailer';

const [host, addressFile, messageFile] = process.argv.slice(2);
if (host === undefined || addressFile === undefined || messageFile === undefined) {
  console.error('usage: newsletter.ts HOST ADDRESSES.txt MESSAGE.txt (first line: the subject)');
  process.exit(64);
}
/** Messages composed ahead of the line; enough to keep it busy. */
const AHEAD = 100;

const addresses = (await readFile(addressFile, 'utf8')).split('\n').filter((line) => line.includes('@'));
const [subject = '', ...body] = (await readFile(messageFile, 'utf8')).split('\n');
const sshConfig = process.env.POSTERN_SSH_CONFIG;
const mailer = createTransport(sshTransport({ host, ...(sshConfig === undefined ? {} : { resolve: { sshConfig } }) }));

const refused = new Map<string, string>();
let done = 0;
const queue = addresses.values();

async function worker(): Promise<void> {
  for (const to of queue) {
    try {
      await mailer.sendMail({
        from: process.env.POSTERN_FROM ?? 'newsletter@localhost',
        to,
        subject,
        text: body.join('\n'),
      });
    } catch (error) {
      // One recipient's refusal is its own; a lost link or a missing server ends the run.
      if (!(error instanceof TransportError)) throw error;
      refused.set(to, error.message);
    }
    done += 1;
    if (process.stderr.isTTY || done === addresses.length) process.stderr.write(`\r${done} of ${addresses.length}`);
  }
}

await Promise.all(Array.from({ length: AHEAD }, worker));
process.stderr.write('\n');
for (const [to, why] of refused) console.log(`refused ${to}: ${why}`);
console.log(`${addresses.length - refused.size} accepted, ${refused.size} refused`);
mailer.close();
process.exitCode = refused.size === 0 ? 0 : 1;
