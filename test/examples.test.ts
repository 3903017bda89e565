import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
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

/** Runs an example from sources. */
function example(name: string, args: readonly string[], o: { env?: NodeJS.ProcessEnv; input?: string } = {}) {
  const node = ['--conditions=@postern/source', '--import', 'tsx', join(EXAMPLES, name), ...args];
  return run(process.execPath, node, {
    env: { ...process.env, ...o.env },
    cwd: EXAMPLES,
    ...(o.input === undefined ? {} : { input: o.input }),
  });
}

test('a newsletter to 1,000 recipients goes over one session; refused addresses are listed', async () => {
  await using far = await startRig({ imapd: false, smtp: { refuse: { gone: '5.1.1 no longer here' } } });
  const addresses = Array.from({ length: 999 }, (_, n) => `reader${n}@gate.test`);
  await writeFile(join(far.dir, 'addresses'), [...addresses, 'gone@gate.test', ''].join('\n'));
  await writeFile(join(far.dir, 'letter'), 'News\nmark-news\n');
  const ran = await example('newsletter.ts', ['gate', join(far.dir, 'addresses'), join(far.dir, 'letter')], {
    env: { POSTERN_SSH_CONFIG: far.client.configFile, POSTERN_FROM: 'news@gate.test' },
  });
  expect(ran.stderr).toContain('1000 of 1000');
  expect(ran.stdout).toContain('refused gone@gate.test');
  expect(ran.stdout).toContain('999 accepted, 1 refused');
  expect(ran.code).toBe(1);
  expect(far.ssh.log().filter((line) => line.includes('Accepted publickey'))).toHaveLength(1);
});

test('a cron alert lies in the spool though nothing runs', async () => {
  const spool = join(gate.dir, 'alerts');
  const ran = await example('cron-alert.ts', ['admin@gate.test', 'disk'], {
    env: { POSTERN_SPOOL: spool },
    input: '97 % full\n',
  });
  expect(ran.code, ran.stderr).toBe(0);
  expect(ran.stdout).toMatch(/^queued as /);
  const [file = ''] = await readdir(join(spool, 'queue'));
  expect(await readFile(join(spool, 'queue', file), 'utf8')).toContain('97 % full');
});

test('a bounce is read per recipient', async () => {
  const bounce = [
    'From: <>',
    'To: ada@brook.test',
    'Content-Type: multipart/report; report-type=delivery-status; boundary=b',
    '',
    '--b',
    'Content-Type: text/plain',
    '',
    'Sorry.',
    '--b',
    'Content-Type: message/delivery-status',
    '',
    'Reporting-MTA: dns; laptop',
    '',
    'Final-Recipient: rfc822; gone@gate.test',
    'Action: failed',
    'Status: 5.1.1',
    'Diagnostic-Code: smtp; 550 5.1.1 no longer',
    ' here',
    '--b--',
    '',
  ].join('\r\n');
  const ran = await example('read-bounce.ts', [], { input: bounce });
  expect(ran.stdout).toBe('gone@gate.test: failed 5.1.1 smtp; 550 5.1.1 no longer here\n');
});
