import { readdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { systemEnv } from '@postern/core';
import { type Gate, type SeedMessage, seedMaildir } from '@postern/gate';
import { connectImap } from '@postern/imapflow';
import { createLink, resolveHost } from '@postern/ssh';
import { startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { start } from './support/lend.ts';
import { run } from './support/postern.ts';

/** The examples that read mail over SSH with nothing else running. */
const EXAMPLES = resolve(import.meta.dirname, '../examples');
const NODE = ['--conditions=@postern/source', '--import', 'tsx'];
const COUNT = 40;
let gate: Gate;
let messages: SeedMessage[];

beforeAll(async () => {
  gate = await startRig({ smtp: false });
  messages = await seedMaildir(gate.maildir, { count: COUNT, account: gate.account });
});
afterAll(() => gate?.stop());

const env = (): NodeJS.ProcessEnv => ({ ...process.env, POSTERN_SSH_CONFIG: gate.client.configFile });
const example = (name: string, args: readonly string[]): ReturnType<typeof run> =>
  run(process.execPath, [...NODE, join(EXAMPLES, name), ...args], { env: env(), cwd: EXAMPLES });

test('backup-mailbox copies every message once, byte for byte', async () => {
  const maildir = join(gate.dir, 'backup');
  expect(await example('backup-mailbox.ts', ['gate', maildir])).toMatchObject({
    code: 0,
    stdout: `${COUNT} new, ${COUNT} in all\n`,
  });
  const files = await readdir(join(maildir, 'cur'));
  const bytes = await Promise.all(files.map((file) => readFile(join(maildir, 'cur', file), 'latin1')));
  expect(bytes.sort()).toEqual(messages.map((message) => message.bytes.toString('latin1')).sort());
  expect(files.filter((file) => file.endsWith('S')).length).toBe(
    messages.filter((message) => message.flags.includes('S')).length,
  );
  expect((await example('backup-mailbox.ts', ['gate', maildir])).stdout).toBe(`0 new, ${COUNT} in all\n`);
});

test('watch-folder acts on what arrives, also after the link was lost', async () => {
  const args = [...NODE, join(EXAMPLES, 'watch-folder.ts'), 'gate', 'INBOX', 'grep', '^Subject: '];
  const watching = start(process.execPath, args, { ...env(), PWD: EXAMPLES });
  const deliver = async (mark: string): Promise<void> => {
    const environment = { PATH: process.env.PATH };
    const host = await resolveHost('gate', { sshConfig: gate.client.configFile, environment });
    const link = createLink(host, { env: systemEnv });
    const imap = await connectImap({ link });
    await imap.append('INBOX', `Subject: ${mark}\r\n\r\nhello\r\n`, ['\\Flagged']);
    await imap.logout();
    await link.close();
  };
  onTestFinished(() => void watching.child.kill('SIGKILL'));
  await watching.shown(/watching INBOX on gate\n/);
  await deliver('first');
  await watching.shown(/^Subject: first\r?$/m);
  await gate.ssh.dropConnections();
  await watching.shown(/watching INBOX[\s\S]*watching INBOX/);
  await deliver('second');
  await watching.shown(/^Subject: second\r?$/m);
  watching.child.kill('SIGTERM');
  expect(await watching.ended, watching.stderr()).toBe(0);
  expect(watching.stdout().match(/^Subject: /gm)?.length).toBe(2);
});

test('move-old moves old, read, unflagged mail, and nothing else', async () => {
  const old = messages.filter((message) => message.flags.includes('S') && !message.flags.includes('F'));
  const ran = await example('move-old.ts', ['gate', '30']);
  expect(ran, ran.stderr).toMatchObject({ code: 0, stdout: `${old.length} to Archive.2024\n` });
  expect((await example('move-old.ts', ['gate', '30'])).stdout).toBe('nothing is older than 30 days\n');
  expect((await readdir(join(gate.maildir, '.Archive.2024', 'cur'))).length).toBe(old.length);
});
