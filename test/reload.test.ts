import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { freePort, type Gate } from '@postern/gate';
import { startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type LineClient, talkTo } from './support/line-client.ts';
import { hostPort, makePlace, PLAIN, type Place, postern, type Up, up } from './support/postern.ts';

/** SIGHUP: another configuration, and no session ends. */
let gate: Gate;
beforeAll(async () => {
  gate = await startRig();
});
afterAll(() => gate?.stop());

/** A daemon whose configuration and ssh_config are its own to change. */
async function start(
  name: string,
  toml = PLAIN,
): Promise<{ place: Place; daemon: Up; sshConfig: string; write(toml: string): Promise<void> }> {
  const place = await makePlace(gate, toml, name);
  const sshConfig = join(place.dir, 'ssh_config');
  await writeFile(sshConfig, await readFile(gate.client.configFile));
  const head = `state_dir = ${JSON.stringify(join(place.dir, 'state'))}\nssh_config = ${JSON.stringify(sshConfig)}\n`;
  const write = (next: string): Promise<void> => writeFile(place.config, head + next);
  await write(toml);
  return { place, sshConfig, write, daemon: await up(place, []) };
}

/** Sends SIGHUP and resolves with what the log says of it. */
async function hangUp({ child, log }: Up): Promise<string> {
  const told = (): string[] => log().match(/SIGHUP: [^"]*/g) ?? [];
  const before = told().length;
  child.kill('SIGHUP');
  while (told().length === before) await once(child.stderr ?? child, 'data');
  return told().at(-1) ?? '';
}

interface Status {
  readonly imap: { readonly listen: string[]; readonly sessions: number };
  readonly smtp: { readonly listen: string[]; readonly sessions: number };
  readonly hosts: { readonly host: string; readonly destination: string; readonly state: string }[];
  readonly forwards: { readonly listen: string; readonly to: string }[];
  readonly reverses: { readonly listen: string; readonly state: string }[];
}

async function statusOf(place: Place): Promise<Status> {
  return JSON.parse((await postern(place, ['status', '--json'])).stdout) as Status;
}

async function logIn(address: string | undefined, user = 'x'): Promise<LineClient> {
  const client = talkTo(address);
  await client.said('* OK');
  await client.ask(`a LOGIN ${user} y`, 'a OK');
  return client;
}

test('takes over routes at once, and leaves a faulty file alone', async () => {
  const elsewhere = PLAIN.replace('match = ["*"]', 'match = ["elsewhere.test"]');
  const { daemon, write } = await start('routes', elsewhere);
  const imap = await logIn(daemon.imap[0]);
  const smtp = talkTo(daemon.smtp[0]);
  await smtp.said('220 ');
  await smtp.ask('EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<gate@gate.test>', '550 5.7.1');
  await write(PLAIN);
  expect(await hangUp(daemon)).toBe('SIGHUP: reloaded');
  await smtp.ask('RCPT TO:<gate@gate.test>', '250 2.1.5');
  await write(`${elsewhere}colour = "red"\n`);
  expect(await hangUp(daemon)).toMatch(/nothing reloaded: .*colour/s);
  await smtp.ask('RCPT TO:<gate+again@gate.test>', '250 2.1.5');
  await imap.ask('b NOOP', 'b OK');
  await daemon.stop();
});

test('opens and closes listeners and hosts while sessions go on', async () => {
  const { place, daemon, sshConfig, write } = await start('listeners');
  const far = await freePort();
  const first = await logIn(daemon.imap[0]);
  const smtp = talkTo(daemon.smtp[0]);
  await smtp.said('220 ');
  await writeFile(sshConfig, (await readFile(sshConfig, 'utf8')).replace(/^Host gate$/m, 'Host gate second'));
  await write(
    `${PLAIN}[[imap]]\nlisten = ["127.0.0.1:0"]\nhost = "second"\n` +
      `[[forward]]\nlisten = "127.0.0.1:0"\nhost = "second"\nto = "cat"\n` +
      `[[reverse]]\nhost = "second"\nlisten = "127.0.0.1:${far}"\nto = "127.0.0.1:${await freePort()}"\n`,
  );
  expect(await hangUp(daemon)).toBe('SIGHUP: reloaded');
  await daemon.logged(/second: reverse: the far side listens/);
  const wide = await statusOf(place);
  expect(wide.imap.listen).toEqual([daemon.imap[0], expect.any(String)]);
  expect(wide.hosts.map(({ host }) => host)).toEqual(['gate', 'second']);
  expect(wide.reverses).toMatchObject([{ state: 'listening' }]);
  const second = await logIn(wide.imap.listen[1]);
  const forward = talkTo(wide.forwards[0]?.listen);
  await forward.ask('through', 'through');

  await write(PLAIN);
  expect(await hangUp(daemon)).toBe('SIGHUP: reloaded');
  const narrow = await statusOf(place);
  expect(narrow).toMatchObject({ forwards: [], reverses: [], hosts: [{ host: 'gate' }] });
  expect(narrow.imap).toEqual({ listen: [daemon.imap[0]], sessions: 2 });
  expect(await refused(wide.imap.listen[1])).toBe('ECONNREFUSED');
  expect(await refused(wide.forwards[0]?.listen)).toBe('ECONNREFUSED');
  await first.ask('b NOOP', 'b OK');
  await second.ask('b NOOP', 'b OK');
  await forward.ask('still', 'still');
  await smtp.ask('NOOP', '250 ');
  expect(await daemon.stop()).toBe(0);
  await Promise.all([first.ended, second.ended, forward.ended, smtp.ended]);
  expect(second.all()).toMatch(/^\* BYE /m);
});

test('serves in another way at the same address', async () => {
  const { place, daemon, write } = await start('other-way');
  const before = await logIn(daemon.imap[0]);
  expect(before.all()).not.toContain('STARTTLS');
  await write(PLAIN.replace('host = "gate"\n', 'host = "gate"\ntls = "starttls"\n'));
  expect(await hangUp(daemon)).toBe('SIGHUP: reloaded');
  const after = talkTo(daemon.imap[0]);
  await after.said('STARTTLS');
  await before.ask('b NOOP', 'b OK');
  expect((await statusOf(place)).imap).toEqual({ listen: daemon.imap, sessions: 2 });
  await daemon.stop();
});

test('connects as ssh_config says now, and ends no session for it', async () => {
  const { place, daemon, sshConfig } = await start('ssh-config');
  const text = await readFile(sshConfig, 'utf8');
  const session = await logIn(daemon.imap[0]);
  await writeFile(sshConfig, text.replace(/^(\s*Port) \d+$/m, `$1 ${await freePort()}`));
  expect(await hangUp(daemon)).toBe('SIGHUP: reloaded');
  await daemon.logged(/gate: .*refuses the connection/);
  await session.ask('b NOOP', 'b OK');
  await writeFile(sshConfig, text);
  expect(await hangUp(daemon)).toBe('SIGHUP: reloaded');
  await logIn(daemon.imap[0]);
  expect((await statusOf(place)).hosts).toMatchObject([{ host: 'gate', state: 'up' }]);
  await session.ask('c NOOP', 'c OK');
  await daemon.stop();
});

test('an address that cannot be had changes nothing', async () => {
  const { place, daemon, write } = await start('taken');
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as { port: number };
  const before = await statusOf(place);
  await write(
    `[[imap]]\nlisten = ["127.0.0.1:0", "127.0.0.1:0"]\nhost = "gate"\n[smtp]\nlisten = ["127.0.0.1:${port}"]\n` +
      '[[route]]\nmatch = ["elsewhere.test"]\nhost = "gate"\n',
  );
  expect(await hangUp(daemon)).toBe(`SIGHUP: nothing reloaded: 127.0.0.1:${port} is taken by another program`);
  expect(await statusOf(place)).toMatchObject({ imap: before.imap, smtp: before.smtp });
  const smtp = talkTo(daemon.smtp[0]);
  await smtp.said('220 ');
  await smtp.ask('EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<gate@gate.test>', '250 2.1.5');
  other.close();
  await daemon.stop();
});

test('a state_dir of another name waits for a restart', async () => {
  const { daemon, place } = await start('state');
  const text = await readFile(place.config, 'utf8');
  await writeFile(place.config, text.replace(/state"$/m, 'elsewhere"'));
  expect(await hangUp(daemon)).toBe('SIGHUP: reloaded; a restart is needed for state_dir');
  await daemon.stop();
});

/** The code of the error a connection ends with. */
async function refused(address: string | undefined): Promise<string | undefined> {
  const client = talkTo(address);
  const [error] = (await once(client.socket, 'error')) as [NodeJS.ErrnoException];
  expect(hostPort(address).port).toBeGreaterThan(0);
  return error.code;
}
