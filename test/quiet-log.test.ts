/** What the far sshd writes at LogLevel VERBOSE over a day of Postern's: connects, logins, sessions and disconnects, and nothing an administrator would ask about. */
import { readMaildir } from '@postern/gate';
import { startRig } from '@postern/testkit/rig';
import { ImapFlow } from 'imapflow';
import { createTransport } from 'nodemailer';
import { expect, test } from 'vitest';
import { hostPort, makePlace, PLAIN, postern, up } from './support/postern.ts';

/** Lines of OpenSSH 9.2 to 10.6, after their numbers. The warning of a key exchange that is not post-quantum (10.1 and later) is not among them. */
const ORDINARY = [
  /^Server listening on /,
  /^Connection from \S+ port /,
  /^Accepted key \S+ \S+ found at /,
  /^Postponed publickey for /,
  /^Accepted publickey for /,
  /^User child is on pid /,
  /^Starting session: (?:command|subsystem '\w+') for /,
  /^Close session: user /,
  /^Received disconnect from /,
  /^Disconnected from user /,
  /^Connection closed by /,
  /^(?:Connection reset by|Closing connection to) /,
  // Its own processes, killed for the lost link.
  /^(?:Exiting on signal|Received signal)/,
];

const WAIT = { timeout: 60_000 };

test('check, logins, mail with its receipt, a lost link and an end leave no line but those', async () => {
  await using gate = await startRig();
  const place = await makePlace(gate, PLAIN, 'day');
  for (let round = 0; round < 3; round++) expect((await postern(place, ['check', 'gate'])).code).toBe(0);
  {
    await using daemon = await up(place);
    for (const ends of ['logout', 'close', 'close'] as const) {
      const auth = { user: 'a', pass: 'b' };
      const imap = new ImapFlow({ ...hostPort(daemon.imap[0]), secure: false, auth, logger: false });
      imap.on('error', () => {});
      await imap.connect();
      await imap.mailboxOpen('INBOX');
      await imap[ends]();
    }
    const transport = createTransport({ ...hostPort(daemon.smtp[0]), secure: false, ignoreTLS: true });
    await transport.sendMail({ from: 'me@gate.test', to: 'gate@gate.test', subject: 'quiet', text: 'x' });
    await expect.poll(async () => (await readMaildir(gate.maildir)).length, WAIT).toBe(1);
    await gate.ssh.dropConnections();
    await expect.poll(() => daemon.log().match(/link up after/g)?.length, WAIT).toBe(2);
  }
  const strange = gate.ssh.log().filter((line) => !ORDINARY.some((pattern) => pattern.test(line)));
  expect(strange).toEqual([]);
});
