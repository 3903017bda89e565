import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { quoteAll } from '@postern/core';
import type { Gate } from '@postern/gate';
import { fetchTool, startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makePrograms, type Programs } from './support/lend.ts';
import { makePlace, PLAIN, run, type Up, up } from './support/postern.ts';

/** Programs that want to be given an ssh, with `postern-ssh`: all of them over the one link of a daemon. */
let gate: Gate;
let daemon: Up;
let lent: Programs;
let near: string;
const bytes = randomBytes(3_000_000);

beforeAll(async () => {
  gate = await startRig({ imapd: false, smtp: false });
  const place = await makePlace(gate, PLAIN);
  lent = await makePrograms(place);
  daemon = await up(place);
  near = join(gate.dir, 'near');
  await mkdir(join(near, 'tree/deep'), { recursive: true });
  await writeFile(join(near, 'tree/deep/noise'), bytes);
  await writeFile(join(near, "tree/it's a name"), 'text\n');
});

afterAll(async () => {
  await daemon?.stop();
  await gate?.stop();
});

/** Runs a program in `near`, and expects it to succeed. */
async function ok(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}, cwd = near): Promise<string> {
  const ran = await run(command, args, { cwd, env: { ...process.env, HOME: near, ...env } });
  expect(ran.code, `${command} ${args.join(' ')}\n${ran.stdout}${ran.stderr}`).toBe(0);
  return ran.stdout;
}

/** Runs a line over there. */
const far = (line: string): Promise<string> => ok(lent.posternSsh, ['gate', line]);

/** Makes a fetched tool a command of the far side, too. */
async function bothSides(name: string) {
  const tool = await fetchTool(name);
  const env = Object.entries(tool.env).map(([key, value]) => `${key}=${value}`);
  await gate.command(name, `exec ${quoteAll(['env', ...env, tool.command, ...tool.args])} "$@"`);
  return tool;
}

test('rsync -e copies a tree there and back', async () => {
  const rsync = await bothSides('rsync');
  const args = [...rsync.args, '-a', '-e', lent.posternSsh];
  await ok(rsync.command, [...args, 'tree/', 'gate:tree/'], rsync.env);
  await ok(rsync.command, [...args, 'gate:tree/', 'back/'], rsync.env);
  expect((await readFile(join(near, 'back/deep/noise'))).equals(bytes)).toBe(true);
  expect(await readFile(join(near, "back/it's a name"), 'utf8')).toBe('text\n');
  const again = await ok(rsync.command, [...args, '-i', 'tree/', 'gate:tree/'], rsync.env);
  expect(again).toBe('');
});

test('git pushes and clones with GIT_SSH, by both kinds of address', async () => {
  const env = {
    GIT_SSH: lent.posternSsh,
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_AUTHOR_NAME: 'A',
    GIT_AUTHOR_EMAIL: 'a@brook.test',
    GIT_COMMITTER_NAME: 'A',
    GIT_COMMITTER_EMAIL: 'a@brook.test',
  };
  await far('git init -q --bare r.git');
  await ok('git', ['init', '-q', '-b', 'main', 'work'], env);
  const work = join(near, 'work');
  await writeFile(join(work, 'noise'), bytes);
  await ok('git', ['add', 'noise'], env, work);
  await ok('git', ['commit', '-q', '-m', 'noise'], env, work);
  await ok('git', ['push', '-q', 'gate:r.git', 'main'], env, work);
  // With a port, git first asks with -G whether this is an ssh.
  const url = `ssh://${gate.account.user}@gate:${gate.ssh.port}${gate.home}/r.git`;
  await ok('git', ['clone', '-q', '-b', 'main', url, 'clone'], env);
  expect((await readFile(join(near, 'clone/noise'))).equals(bytes)).toBe(true);
});

test('cvs imports and checks out with CVS_RSH', async () => {
  const cvs = await bothSides('cvs');
  const env = { ...cvs.env, CVS_RSH: lent.posternSsh };
  const root = `:ext:${gate.account.user}@gate:${gate.home}/cvsroot`;
  await far(`cvs -d ${gate.home}/cvsroot init`);
  const source = join(near, 'module');
  await mkdir(source);
  await writeFile(join(source, 'file'), 'one\n');
  await ok(
    cvs.command,
    [...cvs.args, '-Q', '-d', root, 'import', '-m', 'first', 'module', 'vendor', 'start'],
    env,
    source,
  );
  await ok(cvs.command, [...cvs.args, '-Q', '-d', root, 'checkout', '-d', 'checked-out', 'module'], env);
  expect(await readFile(join(near, 'checked-out/file'), 'utf8')).toBe('one\n');
});

test.each([
  ['sftp', []],
  ['its old protocol', ['-O']],
])('scp -S copies there and back by %s', async (name, flags) => {
  const there = `gate:copied-${flags.length}`;
  await ok('scp', ['-q', '-S', lent.posternSsh, ...flags, 'tree/deep/noise', there]);
  await ok('scp', ['-q', '-S', lent.posternSsh, ...flags, there, `by ${name}`]);
  expect((await readFile(join(near, `by ${name}`))).equals(bytes)).toBe(true);
});

test('sftp -S puts and gets', async () => {
  await writeFile(join(near, 'batch'), 'put tree/deep/noise put\nget put got\nbye\n');
  await ok('sftp', ['-q', '-S', lent.posternSsh, '-b', 'batch', 'gate']);
  expect((await readFile(join(near, 'got'))).equals(bytes)).toBe(true);
});

test('all of that was one connection', () => {
  const accepted = gate.ssh.log().filter((line) => /^Accepted publickey/.test(line));
  expect(accepted).toHaveLength(1);
});
