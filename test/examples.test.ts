import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Gate, readMaildir, seedMaildir } from '@postern/gate';
import { fetchTool, startPostfix, startRig } from '@postern/testkit/rig';
import { createTransport } from 'nodemailer';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makePlace, PLAIN, run, type Up, up } from './support/postern.ts';

/** The examples, run as their README says. (mutt's is in clients.test.ts.) */
const EXAMPLES = resolve(import.meta.dirname, '../examples');
let gate: Gate;
let daemon: Up;

beforeAll(async () => {
  gate = await startRig({ smtp: { domains: ['*'] } });
  // The Postfix of the example runs under an account of its own, as on any machine.
  daemon = await up(await makePlace(gate, `${PLAIN}[access]\nallow = ["same-user", "anyone"]\n`));
});

afterAll(async () => {
  await daemon?.stop();
  await gate?.stop();
});

async function arrived(mark: string): Promise<string> {
  const found = async () => (await readMaildir(gate.maildir)).map(String).find((text) => text.includes(mark)) ?? '';
  await expect.poll(found, { timeout: 60_000 }).not.toBe('');
  return found();
}

test('the script answers every unseen message once, and none that a machine sent', async () => {
  const messages = await seedMaildir(gate.maildir, { count: 5, account: gate.account });
  const robot = 'From: robot@brook.test\nTo: gate@gate.test\nSubject: beep\nAuto-Submitted: auto-generated\n\nbeep\n';
  await writeFile(join(gate.maildir, 'new', '1700000000.robot.gate'), robot);
  const script = (): ReturnType<typeof run> =>
    run(process.execPath, ['--import', 'tsx', join(EXAMPLES, 'answer.ts'), 'mark-answer'], {
      env: {
        ...process.env,
        POSTERN_IMAP: daemon.imap[0],
        POSTERN_SMTP: daemon.smtp[0],
        POSTERN_FROM: 'gate@gate.test',
      },
      cwd: EXAMPLES,
    });
  const first = await script();
  expect(first.code, first.stderr).toBe(0);
  const answered = messages.filter((message) => !/[SR]/.test(message.flags));
  expect(first.stdout.match(/^answered /gm)).toHaveLength(answered.length);
  for (const message of answered) expect(first.stdout).toContain(message.from);
  expect(first.stdout).not.toContain('robot@');
  expect(await arrived('mark-answer')).toContain('Auto-Submitted: auto-replied');
  expect((await script()).stdout).not.toContain('answered ');
});

test('Postfix with the settings of the example hands its mail to Postern', async () => {
  const conf = join(gate.dir, 'example-postfix');
  await mkdir(conf);
  await writeFile(join(conf, 'main.cf'), 'compatibility_level = 3.6\n');
  await writeFile(join(conf, 'master.cf'), '');
  const postconf = await fetchTool('postconf');
  const script = await run('sh', [join(EXAMPLES, 'postfix-smarthost/smarthost.sh'), conf, daemon.smtp[0] ?? ''], {
    env: { ...process.env, ...postconf.env, POSTCONF: postconf.command },
  });
  expect(script.code, script.stderr).toBe(0);
  const written = (await readFile(join(conf, 'main.cf'), 'utf8')).matchAll(/^(\w+) = (.*)$/gm);
  const settings = Object.fromEntries([...written].map(([, name = '', value = '']) => [name, value]));
  expect(settings).toMatchObject({ relayhost: `[127.0.0.1]:${daemon.smtp[0]?.split(':')[1]}` });

  await using laptop = await startRig({ imapd: false, smtp: false });
  // As Debian sets Postfix up: this machine's own mail goes anywhere.
  const debian = { smtpd_relay_restrictions: 'permit_mynetworks, reject', default_transport: 'smtp' };
  const postfix = await startPostfix(laptop, { domains: [], settings: { ...debian, ...settings } });
  const mua = createTransport({ host: '127.0.0.1', port: postfix.port, ignoreTLS: true });
  await mua.sendMail({
    from: 'ada@brook.test',
    to: 'rosa@lindqvist.test',
    subject: 'by Postfix',
    text: 'mark-postfix',
  });
  mua.close();
  const text = await arrived('mark-postfix');
  expect(text).toContain('Subject: by Postfix');
  expect(await postfix.log()).toMatch(/relay=127\.0\.0\.1.*status=sent/);
});
