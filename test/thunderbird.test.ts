import { readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Gate, makeMaildir, readMaildir, type SeedMessage, seedMaildir, writeOwned } from '@postern/gate';
import {
  type Display,
  type Preferences,
  startDisplay,
  startRig,
  startThunderbird,
  type Thunderbird,
} from '@postern/testkit/rig';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFailed, test } from 'vitest';
import { type MailWindow, mailWindow } from './support/mail-window.ts';
import { hostPort, makePlace, type Place, postern, type Up, up } from './support/postern.ts';

/**
 * Debian's Thunderbird on a display of its own, set up with what `postern setup thunderbird` prints and driven by clicks. It
 * fetches some 80 MB the first time and so runs only where asked to; pictures of it come to lie in `test/screenshots`.
 */
const { POSTERN_HEAVY } = process.env;
const HEAVY = POSTERN_HEAVY === '1';
if (!HEAVY)
  process.stderr.write('\nSKIPPED: Thunderbird. To run it: POSTERN_HEAVY=1 npx vitest run test/thunderbird.test.ts\n');

const MODES = ['off', 'starttls', 'implicit'] as const;
const SCREENSHOTS = resolve(import.meta.dirname, 'screenshots');
const COUNT = 30;
const ME = 'gate@gate.test';

interface Setup {
  readonly parts: readonly { readonly lines: readonly string[] }[];
  readonly notes: readonly string[];
}

/** The lines of a dialogue, by what stands before the colon. */
function fields(setup: Setup, part: number): (name: string) => string {
  const pairs = new Map(setup.parts[part]?.lines.map((line) => line.split(/: (.*)/s, 2) as [string, string]));
  return (name) => pairs.get(name) ?? '';
}

/** What Thunderbird stores when the dialogues are filled in with those lines. */
function preferences(setup: Setup, title: string): Preferences {
  const security = ['None', 'unused', 'STARTTLS', 'SSL/TLS'];
  const methods = ['', 'No authentication', '', 'Password, transmitted insecurely', 'Normal password'];
  const method = (name: string): number => Math.min(methods.indexOf(name), 3);
  const incoming = fields(setup, 0);
  const outgoing = fields(setup, 1);
  return {
    'mail.accountmanager.accounts': 'account1,account2',
    'mail.accountmanager.defaultaccount': 'account1',
    'mail.accountmanager.localfoldersserver': 'server2',
    'mail.account.account1.server': 'server1',
    'mail.account.account1.identities': 'id1',
    'mail.account.account2.server': 'server2',
    'mail.identity.id1.fullName': 'Reader',
    'mail.identity.id1.useremail': ME,
    'mail.identity.id1.valid': true,
    'mail.identity.id1.smtpServer': 'smtp1',
    'mail.identity.id1.fcc_folder': `imap://${incoming('Username')}@${incoming('Hostname')}/Sent`,
    'mail.server.server1.type': incoming('Protocol').toLowerCase(),
    'mail.server.server1.hostname': incoming('Hostname'),
    'mail.server.server1.port': Number(incoming('Port')),
    'mail.server.server1.socketType': security.indexOf(incoming('Connection security')),
    'mail.server.server1.authMethod': method(incoming('Authentication method')),
    'mail.server.server1.userName': incoming('Username'),
    'mail.server.server1.name': title,
    // Not before it knows password and certificate.
    'mail.server.server1.login_at_startup': false,
    'mail.server.server2.type': 'none',
    'mail.server.server2.hostname': 'Local Folders',
    'mail.server.server2.userName': 'nobody',
    'mail.server.server2.name': 'Local Folders',
    'mail.smtpservers': 'smtp1',
    'mail.smtp.defaultserver': 'smtp1',
    'mail.smtpserver.smtp1.type': 'smtp',
    'mail.smtpserver.smtp1.hostname': outgoing('Hostname'),
    'mail.smtpserver.smtp1.port': Number(outgoing('Port')),
    'mail.smtpserver.smtp1.try_ssl': security.indexOf(outgoing('Connection security')),
    'mail.smtpserver.smtp1.authMethod': method(outgoing('Authentication method')),
  };
}

describe.runIf(HEAVY)('Thunderbird', () => {
  let gate: Gate;
  let display: Display;
  let messages: SeedMessage[];

  beforeAll(async () => {
    gate = await startRig();
    await makeMaildir(join(gate.maildir, '.Sent'), gate.account);
    await writeOwned(gate.account, join(gate.maildir, 'subscriptions'), 'Sent\n');
    messages = await seedMaildir(gate.maildir, { count: COUNT, account: gate.account });
    display = await startDisplay(gate);
  });
  afterAll(() => gate?.stop());

  describe.each(MODES)('tls = "%s"', (mode) => {
    let place: Place;
    let daemon: Up;
    let thunderbird: Thunderbird;
    let window: MailWindow;
    let count: number;

    beforeAll(async () => {
      count = (await readMaildir(gate.maildir)).length;
      const tls = `listen = ["127.0.0.1:0"]\ntls = "${mode}"\n`;
      const tables = `[[imap]]\n${tls}host = "gate"\n[smtp]\n${tls}[[route]]\nmatch = ["*"]\nhost = "gate"\n`;
      place = await makePlace(gate, tables, mode);
      daemon = await up(place);
      const setup = JSON.parse((await postern(place, ['setup', 'thunderbird', '--json'])).stdout) as Setup;
      const settings = preferences(setup, `Postern, ${mode}`);
      thunderbird = await startThunderbird(gate, { display, name: mode, preferences: settings });
      window = mailWindow(thunderbird);
      const incoming = fields(setup, 0);
      const [host, user, password] = [incoming('Hostname'), incoming('Username'), incoming('Password')];
      await window.remember({ host, user, password });
      if (mode === 'off') return;
      const pem = await readFile(join(place.dir, 'state', 'tls', 'cert.pem'), 'utf8');
      for (const address of [daemon.imap[0], daemon.smtp[0]]) {
        expect(setup.notes.join('\n')).toContain(await window.trust(pem, hostPort(address)));
      }
    });
    afterAll(async () => {
      await thunderbird?.quit();
      await daemon?.stop();
    });

    beforeEach(() => onTestFailed(() => display.screenshot(join(SCREENSHOTS, `thunderbird-${mode}-failed.png`))));

    test('has the account and lists the inbox', async () => {
      await window.openInbox({ width: display.width, height: display.height, count });
      await expect.poll(() => window.folders(), { timeout: 60_000 }).toContain('Sent');
      const listed = await window.list();
      expect(listed).toHaveLength(count);
      expect(listed.slice(0, COUNT).map(({ id, subject }) => ({ id, subject }))).toEqual(
        messages.map(({ messageId, subject }) => ({ id: messageId, subject })),
      );
      expect((await window.rows()).join('\n')).toContain(listed.at(-1)?.subject);
    });

    test('opens a message at a click, and the far side learns that it was read', async () => {
      const unread = (await window.list()).find(({ read }) => !read);
      const message = messages.find(({ messageId }) => messageId === unread?.id);
      if (message === undefined) throw new Error('nothing is unread');
      const shown = await window.open(message.messageId);
      expect(shown.subject).toContain(message.subject.replace('Re: ', ''));
      expect(shown.from).toContain(message.from);
      expect(shown.text.trim()).not.toBe('');
      expect(message.bytes.toString('utf8').replaceAll('\r\n', '\n')).toContain(`\n${shown.text.trim()}\n`);
      const seen = (): boolean =>
        readdirSync(join(gate.maildir, 'cur')).some((name) =>
          new RegExp(`M${String(messages.indexOf(message)).padStart(6, '0')}P1.*:2,.*S`).test(name),
        );
      await expect.poll(seen, { timeout: 60_000 }).toBe(true);
      await display.screenshot(join(SCREENSHOTS, `thunderbird-${mode}-read.png`));
    });

    test('keeps every message for reading offline, byte for byte', async () => {
      await window.offline(count);
      const kept = await readFile(join(thunderbird.profile, 'ImapMail', '127.0.0.1', 'INBOX'), 'latin1');
      for (const { bytes, messageId } of messages)
        expect(kept.includes(bytes.toString('latin1')), messageId).toBe(true);
    });

    test('sends through the relay, keeps a copy over there, and the message comes in by itself', async () => {
      const subject = `Sent over ${mode}`;
      await window.send({ to: ME, subject, body: 'Round and round.\n' });
      const id = await window.arrival(subject);
      expect((await window.open(id)).text).toContain('Round and round.');
      await window.filled('Sent');
      const arrived = (await readMaildir(gate.maildir)).map(String).filter((text) => text.includes(subject));
      expect(arrived).toHaveLength(1);
      expect(arrived[0]).toMatch(/^Received: .*\(Postern\)/ms);
      await display.screenshot(join(SCREENSHOTS, `thunderbird-${mode}-sent.png`));
    });

    test('each of its sessions was let in by the kernel', () => {
      const logins = daemon.log().match(/logged in to gate \(same-user/g) ?? [];
      expect(logins.length).toBeGreaterThanOrEqual(2);
      expect(daemon.log()).not.toMatch(/refused|rejected/);
    });
  });
});
