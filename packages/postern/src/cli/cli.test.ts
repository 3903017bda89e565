import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseForwardPath, parseReversePath, systemEnv } from '@postern/core';
import { spoolWriter } from '@postern/spool';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { spoolDirectory } from '../base/paths.ts';
import { runProgram } from './program.ts';

let dir = '';
let config = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'postern-cli-'));
  config = join(dir, 'config.toml');
  writeFileSync(config, `state_dir = "${dir}/state"\n[host.gate]\n`);
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** Runs the command in this process. */
async function postern(...argv: string[]): Promise<{ status: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const status = await runProgram({
    argv,
    surroundings: { env: {}, uid: process.getuid?.() ?? 0, home: dir, passwdHome: dir },
    output: {
      out: (text) => {
        out += text;
      },
      err: (text) => {
        err += text;
      },
      outTty: false,
      errTty: false,
    },
    version: '0.0.0',
  });
  return { status, out, err };
}

/** Puts a message into the spool, as `sendmail` would. Resolves with its id. */
async function spoolMessage(): Promise<string> {
  const spool = await spoolWriter({ dir: spoolDirectory(join(dir, 'state')), env: systemEnv });
  const envelope = {
    from: parseReversePath('me@home.example'),
    recipients: [{ to: parseForwardPath('ann@example.org') }],
    body: '7BIT',
    smtputf8: false,
  } as const;
  async function* message(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('Subject: x\r\n\r\nhello\r\n');
  }
  const id = await spool.accept(envelope, message());
  await spool.close();
  return id;
}

describe('the command line', () => {
  test.each([
    [['frobnicate'], /unknown command 'frobnicate'/],
    [[], /a command is missing/],
    [['up', '--frob'], /unknown option '--frob'/],
    [['queue', 'hold'], /missing required argument 'id'/],
    [['queue', 'frob'], /./],
    [['--config'], /argument missing/],
    [['up'], /no host is named/],
    [['up', 'gate', '--imap', 'nowhere'], /--imap: "nowhere" is not an address.*accepted/],
    [['up', 'gate', '--smtp', '0.0.0.0:1'], /reachable from other machines/],
    [['check', '-oProxyCommand=x'], /./],
  ])('%j is a usage error: 64, one sentence', async (argv, says) => {
    const ran = await postern(...argv);
    expect(ran.status, ran.err).toBe(64);
    expect(ran.err).toMatch(/^postern: [^\n]+\n( {2}fix: [^\n]+\n)?$/);
    expect(ran.err).toMatch(says);
    expect(ran.out).toBe('');
  });

  test('help and version are no errors', async () => {
    expect(await postern('--help')).toMatchObject({ status: 0, out: expect.stringContaining('Usage: postern') });
    expect(await postern('queue', '--help')).toMatchObject({ status: 0 });
    expect(await postern('--version')).toMatchObject({ status: 0, out: '0.0.0\n' });
  });

  test.each([
    [['--config', 'F', '--json', 'queue', 'list']],
    [['queue', 'list', '--json', '--config', 'F']],
    [['queue', '--json', 'list', '--config', 'F']],
    [['queue', '--json', '--config', 'F']],
  ])('global options stand anywhere: %j', async (argv) => {
    const ran = await postern(...argv.map((word) => (word === 'F' ? config : word)));
    expect(ran).toEqual({ status: 0, out: '[]\n', err: '' });
  });

  test('with --json an error is an object', async () => {
    const ran = await postern('up', '--json');
    expect(ran.status).toBe(64);
    expect(JSON.parse(ran.err)).toMatchObject({ event: 'error', code: 'usage', status: 64 });
  });

  test('a configuration that is not there, or cannot be used: 78', async () => {
    expect(await postern('queue', '--config', join(dir, 'none'))).toMatchObject({ status: 78 });
    writeFileSync(config, 'colour = "red"\n');
    const ran = await postern('queue', '--config', config);
    expect(ran).toMatchObject({ status: 78, out: '' });
    expect(ran.err).toContain(`${config}:1: colour: unknown key; accepted: state_dir`);
  });

  test('what needs a daemon says that none runs: 69', async () => {
    for (const argv of [['status'], ['queue', 'flush']]) {
      const ran = await postern(...argv, '--config', config);
      expect(ran).toEqual({ status: 69, out: '', err: 'postern: no postern is running here\n  fix: postern up\n' });
    }
  });

  test('runs as a program of its own, from sources', () => {
    const main = resolve(import.meta.dirname, '../main.ts');
    const argv = ['--conditions=@postern/source', '--import', 'tsx', main, 'queue', '--json', '--config', config];
    const ran = spawnSync(process.execPath, argv, { encoding: 'utf8' });
    expect(ran).toMatchObject({ status: 0, stdout: '[]\n', stderr: '' });
  });
});

describe('the queue with no daemon', () => {
  test('shows what lies in the spool, in the agreed shape', async () => {
    const id = await spoolMessage();
    const [row] = JSON.parse((await postern('queue', 'list', '--json', '--config', config)).out);
    expect(row).toEqual({
      id,
      from: 'me@home.example',
      size: expect.any(Number),
      state: 'queued',
      arrived: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      next: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      attempts: 0,
      reason: expect.any(String),
      recipients: [{ address: 'ann@example.org', route: '*', host: 'gate', outcome: null, reply: null }],
    });
    expect((await postern('queue', '--config', config)).out).toContain('to <ann@example.org>');
    const shown = JSON.parse((await postern('queue', 'show', id, '--json', '--config', config)).out);
    expect(shown).toEqual({ ...row, header: expect.stringContaining('Subject: '), journal: [] });
  });

  test('shows the header, made safe, and what happened to an entry', async () => {
    const id = await spoolMessage();
    await postern('queue', 'hold', id, '--config', config);
    await postern('queue', 'release', id, '--config', config);
    const { out } = await postern('queue', 'show', id, '--config', config);
    expect(out).toMatch(/^ {4}\S+Z {2}held: .*\n {4}\S+Z {2}released\n/m);
    expect(out).toMatch(/^Subject: /m);
    expect(out).not.toContain('\u001b');
  });

  test('holds, releases and removes', async () => {
    const id = await spoolMessage();
    const state = async (): Promise<string[]> =>
      JSON.parse((await postern('queue', '--json', '--config', config)).out).map((row: { state: string }) => row.state);
    expect(await postern('queue', 'hold', id, '--config', config)).toMatchObject({ status: 0, out: `${id} held\n` });
    expect(await state()).toEqual(['held']);
    expect((await postern('queue', 'release', id, '--config', config)).status).toBe(0);
    expect(await state()).not.toEqual(['held']);
    expect((await postern('queue', 'remove', id, '--config', config)).status).toBe(0);
    expect(await state()).toEqual([]);
  });

  test.each(['show', 'hold', 'release', 'remove'])('%s of an unknown entry: 66', async (verb) => {
    expect((await postern('queue', verb, '../../etc/passwd', '--config', config)).status).toBe(66);
    await spoolMessage();
    expect((await postern('queue', verb, '../../etc/passwd', '--config', config)).status).toBe(66);
  });
});

describe('route', () => {
  beforeEach(() =>
    writeFileSync(
      config,
      `state_dir = "${dir}/state"
[[route]]
match = ["*.example.org"]
from = ["*@work.example"]
host = "office"
[[route]]
match = ["example.org", '/^t-online\\.(de|at)$/']
host = "gate"
`,
    ),
  );
  test('tells which route takes an address, and why', async () => {
    const ran = await postern(
      'route',
      '--from',
      'me@work.example',
      'a@sub.example.org',
      'b@T-Online.de',
      '--json',
      '--config',
      config,
    );
    expect(ran.status).toBe(0);
    expect(JSON.parse(ran.out)).toMatchObject([
      { address: 'a@sub.example.org', route: '*.example.org', host: 'office' },
      { address: 'b@T-Online.de', host: 'gate', tried: [{ route: 1, why: 'does not match' }, { route: 2 }] },
    ]);
  });
  test('no route: 68; no address: 65', async () => {
    const ran = await postern('route', 'a@sub.example.org', '--config', config);
    expect(ran).toMatchObject({ status: 68 });
    expect(ran.out).toMatch(/no route takes it\n {2}route 1 .*matches.*but not the sender/);
    expect(await postern('route', 'nobody', '--config', config)).toMatchObject({ status: 65 });
  });
});

test('password makes, shows and rotates the local password', async () => {
  const first = await postern('password', '--config', config);
  expect(first).toMatchObject({ status: 0, out: expect.stringMatching(/^[\w-]{22}\n$/) });
  expect(await postern('password', '--config', config)).toEqual(first);
  expect(statSync(join(dir, 'state', 'password')).mode & 0o777).toBe(0o600);
  const second = await postern('password', '--rotate', '--json', '--config', config);
  expect(JSON.parse(second.out).password).not.toBe(first.out.trim());
});

test.runIf(existsSync('/dev/full'))('output that cannot be written is told with 74', () => {
  const argv = ['--conditions=@postern/source', '--import', 'tsx', resolve(import.meta.dirname, '../main.ts')];
  const stdio = ['ignore', openSync('/dev/full', 'w'), 'inherit'] as const;
  const { status } = spawnSync(process.execPath, [...argv, '--config', config, 'queue', '--json'], {
    stdio: [...stdio],
  });
  expect(status).toBe(74);
});
