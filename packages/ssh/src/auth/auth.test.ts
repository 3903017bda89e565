import { execFile } from 'node:child_process';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ResolvedHost } from '../host/resolved-host.ts';
import {
  addKey,
  reached,
  recordedLink,
  resolveRig,
  type SshRig,
  startAgent,
  startSshRig,
  temporaryDir,
} from '../rig.test-util.ts';

const run = promisify(execFile);
const signal = new AbortController().signal;
const TRUE = { type: 'exec', command: 'true' } as const;

/** A key pair made by ssh-keygen; the public line without its comment. */
async function makeKey(path: string, args: readonly string[], passphrase = ''): Promise<string> {
  await run('ssh-keygen', ['-q', '-N', passphrase, '-C', 'test', '-f', path, ...args]);
  const { stdout } = await run('ssh-keygen', ['-y', '-P', passphrase, '-f', path]);
  return stdout.trim();
}

describe('authentication at a real sshd', () => {
  let rig: SshRig;
  let dir: { path: string } & AsyncDisposable;
  const at = (name: string): string => join(dir.path, name);
  beforeAll(async () => {
    dir = await temporaryDir();
    const authorizedKeys = await Promise.all([
      makeKey(at('ed'), ['-t', 'ed25519']),
      makeKey(at('rsa'), ['-t', 'rsa', '-b', '2048']),
      makeKey(at('pem'), ['-t', 'rsa', '-b', '2048', '-m', 'PEM']),
      makeKey(at('ec'), ['-t', 'ecdsa', '-b', '384']),
      makeKey(at('locked'), ['-t', 'ed25519'], 'secret'),
      makeKey(at('lockedpem'), ['-t', 'rsa', '-b', '2048', '-m', 'PEM'], 'secret'),
    ]);
    await Promise.all(['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].map((name) => makeKey(at(name), ['-t', 'ed25519'])));
    rig = await startSshRig({ sshd: { authorizedKeys, onlyGivenKeys: true } });
  });
  afterAll(async () => {
    await rig?.stop();
    await dir?.[Symbol.asyncDispose]();
  });

  /** The host with these settings; no agent unless given. */
  async function hostWith(o: Partial<ResolvedHost> & { keys?: readonly string[] }): Promise<ResolvedHost> {
    const { keys = [], ...rest } = o;
    const base = await resolveRig(rig, { identity: keys.map(at) });
    return { ...base, identitiesOnly: false, ...rest };
  }

  /** Opens a channel and gives the error, if any, and the notices. */
  async function enter(o: Parameters<typeof hostWith>[0]): Promise<{ error: unknown; notices: string[] }> {
    const { link, events } = recordedLink(await hostWith(o));
    const error = await link.open(TRUE, { signal }).then(
      async (channel) => void (await channel.exit),
      (reason: unknown) => reason,
    );
    await link.close();
    return { error, notices: events.flatMap((event) => (event.type === 'notice' ? [event.text] : [])) };
  }

  test.each(['ed', 'rsa', 'pem', 'ec'])('takes the key file %s', async (key) => {
    expect((await enter({ keys: [key] })).error).toBeUndefined();
    const accepted = rig.ssh
      .log()
      .filter((line) => line.includes('Accepted publickey'))
      .at(-1);
    expect(accepted).toBeDefined();
  });

  test('tries files in their order until one fits', async () => {
    expect((await enter({ keys: ['a', 'b', 'absent', 'ed'] })).error).toBeUndefined();
  });

  test('a wrong key: one sentence with what was tried and what to do', async () => {
    const { error } = await enter({ keys: ['a', 'b'] });
    expect(error).toMatchObject({ code: 'auth-failed', layer: 'auth', permanent: true });
    const { message, fix } = error as { message: string; fix: string };
    expect(message).toMatch(new RegExp(`^the server does not let in gate at \\[127.0.0.1\\]:${rig.ssh.port}: tried `));
    for (const name of ['a', 'b']) expect(message).toContain(`${at(name)} (ssh-ed25519 SHA256:`);
    expect(message).toContain('the server accepts publickey');
    expect(fix).toContain(`ssh-copy-id -p ${rig.ssh.port} gate@127.0.0.1`);
  });

  test('a key file that others may read is passed over, as ssh does, with the line to type', async () => {
    await chmod(at('ed'), 0o644);
    const { error, notices } = await enter({ keys: ['ed'] });
    await chmod(at('ed'), 0o600);
    expect(error).toMatchObject({ code: 'auth-failed' });
    expect(notices.join()).toContain(`${at('ed')} is passed over: others may read it (mode 0644); chmod 600 it`);
  });

  test('no key at all says so', async () => {
    const { error } = await enter({ keys: ['absent'] });
    expect(error).toMatchObject({ code: 'auth-failed', message: expect.stringContaining('there was no key to offer') });
  });

  // OpenSSH 9.2 has enough after MaxAuthTries (6) keys that were merely offered; 10.6 hears of all eight.
  test('too many keys: says which were tried before the server had enough', async () => {
    const keys = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
    const { error } = await enter({ keys });
    expect(error).toMatchObject({ code: 'auth-failed' });
    const tried = keys.filter((key) => (error as Error).message.includes(at(key)));
    expect(tried).toEqual(keys.slice(0, tried.length));
    expect(tried.length).toBeGreaterThanOrEqual(6);
  });

  test('the agent signs, for files of which only the public half is here too', async () => {
    const socket = at('agent1');
    await using _agent = await startAgent(socket);
    await addKey(socket, at('rsa'));
    await addKey(socket, at('ed'));
    expect((await enter({ identityAgent: socket })).error).toBeUndefined();
    await writeFile(at('alone.pub'), await run('ssh-keygen', ['-y', '-f', at('ec')]).then(({ stdout }) => stdout));
    await addKey(socket, at('ec'));
    const { error } = await enter({ identityAgent: socket, identitiesOnly: true, keys: ['alone'] });
    expect(error).toBeUndefined();
  });

  test('IdentitiesOnly keeps other agent keys back', async () => {
    const socket = at('agent2');
    await using _agent = await startAgent(socket);
    await addKey(socket, at('ed'));
    const { error } = await enter({ identityAgent: socket, identitiesOnly: true, keys: ['a'] });
    expect(error).toMatchObject({ code: 'auth-failed' });
    expect((error as Error).message).not.toContain('agent key');
  });

  test('an agent that is gone is a notice, not the end', async () => {
    const { error, notices } = await enter({ identityAgent: at('nobody'), keys: ['ed'] });
    expect(error).toBeUndefined();
    expect(notices.join()).toContain('does not answer');
  });

  test.each(['locked', 'lockedpem'])('an encrypted key (%s) is opened by the passphrase command', async (key) => {
    await writeFile(at('ask'), `#!/bin/sh\n[ "$1" = ${at(key)} ] && echo secret\n`, { mode: 0o755 });
    expect((await enter({ keys: [key], passphraseCommand: [at('ask')] })).error).toBeUndefined();
  });

  test('an encrypted key without one says how to load it', async () => {
    const { error } = await enter({ keys: ['locked'] });
    expect(error).toMatchObject({
      code: 'auth-failed',
      message: expect.stringContaining(`ssh-add ${at('locked')}`),
      fix: expect.stringContaining('ssh-add'),
    });
  });

  test('a wrong passphrase says which file it was for', async () => {
    const { error } = await enter({ keys: ['locked'], passphraseCommand: ['echo', 'wrong'] });
    expect((error as Error).message).toContain(at('locked'));
  });

  test('refused, the link rests 10 min, but comes up when asked again after the key is there', async () => {
    const { link } = recordedLink(await hostWith({ keys: ['late'] }));
    await expect(link.open(TRUE, { signal })).rejects.toMatchObject({ code: 'auth-failed' });
    const state = link.state as { retryAt: number };
    expect(state.retryAt - Date.now()).toBeGreaterThan(500_000);
    await run('cp', [at('ed'), at('late')]);
    await reached(link, 'up');
    await link.close();
  });
});

test('a server that takes no keys is told apart', async () => {
  await using rig = await startSshRig({
    sshd: { config: ['PubkeyAuthentication no', 'PasswordAuthentication yes'] },
  });
  const { link } = recordedLink(await resolveRig(rig));
  await expect(link.open(TRUE, { signal })).rejects.toMatchObject({
    code: 'auth-failed',
    fix: expect.stringContaining('the server takes no keys'),
  });
  await link.close();
});
