import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type LinkError, systemEnv } from '@postern/core';
import { settle } from '@postern/testkit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { acceptNewHostKey } from '../../auth/accept.ts';
import { readAll, streamError } from '../../conformance.test-util.ts';
import type { HostOverrides, ResolvedHost } from '../../host/resolved-host.ts';
import {
  addKey,
  reached,
  recordedLink,
  resolveRig,
  type SshRig,
  startAgent,
  startSshRig,
  temporaryDir,
} from '../../rig.test-util.ts';

const signal = new AbortController().signal;
const exec = (command: string): { type: 'exec'; command: string } => ({ type: 'exec', command });
const temporary = async (): Promise<string[]> =>
  (await readdir(tmpdir())).filter((name) => /^postern-\w{6}$/.test(name)).sort();

describe("the system's ssh as backend", () => {
  let rig: SshRig;
  let other: SshRig;
  beforeAll(async () => {
    [rig, other] = await Promise.all([startSshRig({ sshd: { config: ['MaxSessions 2'] } }), startSshRig()]);
    await rig.addSshd({ name: 'inner', client: ['ProxyJump gate'] });
  });
  afterAll(() => Promise.all([rig?.stop(), other?.stop()]));
  const resolve = (overrides: HostOverrides = {}, name = 'gate'): Promise<ResolvedHost> =>
    resolveRig(rig, { backend: 'openssh', ...overrides }, name);
  const address = (): string => `[127.0.0.1]:${rig.ssh.port}`;

  /** The fault a link to this host shows. */
  async function faultOf(host: ResolvedHost): Promise<LinkError> {
    const { link } = recordedLink(host);
    link.wake('flush');
    const { error } = (await reached(link, 'down')) as { error: LinkError };
    await link.close();
    return error;
  }

  test('tells of each layer it passes, and leaves no process, socket or directory behind', async () => {
    const before = await temporary();
    const { link, events } = recordedLink(await resolve());
    expect((await readAll(await link.open(exec('echo hi'), { signal }))).toString()).toBe('hi\n');
    const steps = events.flatMap((event) => (event.type === 'passed' ? [event.step] : []));
    expect(steps).toEqual(['tcp', 'kex', 'hostkey', 'auth']);
    expect(link.state).toMatchObject({ type: 'up', rttMs: expect.any(Number) });
    await link.close();
    expect(await temporary()).toEqual(before);
  });

  test('goes beyond MaxSessions with further connections', async () => {
    const { link, events } = recordedLink(await resolve());
    const channels = await Promise.all([1, 2, 3, 4, 5].map(() => link.open(exec('cat'), { signal })));
    for (const channel of channels) channel.stream.end('x');
    expect((await Promise.all(channels.map(readAll))).map(String)).toEqual(Array(5).fill('x'));
    expect(events.filter((event) => event.type === 'up')).toHaveLength(3);
    await link.close();
  });

  test('passes a jump host', async () => {
    const { link } = recordedLink(await resolve({}, 'inner'));
    expect((await readAll(await link.open(exec('echo deep'), { signal }))).toString()).toBe('deep\n');
    await link.close();
  });

  test('unknown host key: the fingerprint and the command, and no key is offered', async () => {
    const before = rig.ssh.log().filter((line) => /publickey/.test(line)).length;
    const error = await faultOf(await resolve({ knownHosts: ['/nonexistent'] }));
    expect(error).toMatchObject({
      code: 'hostkey-unknown',
      layer: 'hostkey',
      message: expect.stringContaining(
        `the host key of ${address()} is not known: it offers ssh-ed25519 ${rig.ssh.fingerprint}`,
      ),
      fix: expect.stringMatching(/postern check --accept-new-host-key gate$/),
    });
    expect(rig.ssh.log().filter((line) => /publickey/.test(line)).length).toBe(before);
  });

  test('changed host key: file and line, and how to remove it', async () => {
    await using dir = await temporaryDir();
    const file = join(dir.path, 'known hosts');
    await writeFile(file, `\n${address()} ${other.ssh.hostKey}\n`);
    const error = await faultOf(await resolve({ knownHosts: [file] }));
    expect(error).toMatchObject({ code: 'hostkey-changed', fix: expect.stringContaining('ssh-keygen -R') });
    expect(error.message).toContain(rig.ssh.fingerprint);
  });

  test('accepted on request, the key is written by ssh and told', async () => {
    await using dir = await temporaryDir();
    const file = join(dir.path, 'known_hosts');
    const host = await resolve({ knownHosts: [file] });
    expect(await acceptNewHostKey(host, { env: systemEnv, signal })).toEqual([
      { name: address(), type: 'ssh-ed25519', fingerprint: rig.ssh.fingerprint, file },
    ]);
    expect(await readFile(file, 'utf8')).toContain('ssh-ed25519');
    expect(await acceptNewHostKey(host, { env: systemEnv, signal })).toEqual([]);
  });

  test('a refused key, a refused connection, a name that is none', async () => {
    const host = await resolve();
    expect(await faultOf({ ...host, user: 'nobody-here' })).toMatchObject({ code: 'auth-failed', layer: 'auth' });
    expect(await faultOf({ ...host, port: 1 })).toMatchObject({ code: 'refused', layer: 'tcp' });
    expect(await faultOf({ ...host, hostname: 'no-such-host.invalid' })).toMatchObject({
      code: 'not-found',
      layer: 'dns',
    });
  });

  test('ssh that cannot be found', async () => {
    const path = process.env.PATH;
    process.env.PATH = '/nonexistent';
    const error = await faultOf(await resolve()).finally(() => {
      process.env.PATH = path;
    });
    expect(error).toMatchObject({ code: 'config', message: expect.stringContaining('not found') });
  });

  test('a link that is lost comes back by itself', async () => {
    const { link } = recordedLink(await resolve());
    const channel = await link.open(exec('cat'), { signal });
    const failing = streamError(channel);
    await rig.ssh.dropConnections();
    expect(await failing).toMatchObject({ code: 'lost' });
    expect((await readAll(await link.open(exec('echo back'), { signal }))).toString()).toBe('back\n');
    await link.close();
  });

  test('auto takes it where ssh2 lacks the algorithms', async () => {
    await using old = await startSshRig({
      sshd: { config: ['KexAlgorithms sntrup761x25519-sha512@openssh.com'] },
    });
    const { link, events } = recordedLink(await resolveRig(old));
    expect((await readAll(await link.open(exec('echo pq'), { signal }))).toString()).toBe('pq\n');
    expect(events).toContainEqual({
      type: 'notice',
      host: 'gate',
      text: expect.stringMatching(/^the system's ssh is taken: .* no algorithm in common: .*key exchange/),
    });
    await link.close();
    const error = await faultOf(await resolveRig(old, { backend: 'ssh2' }));
    expect(error).toMatchObject({ code: 'handshake', fix: expect.stringContaining('backend = "openssh"') });
  });

  test('auto takes it for a certificate of the user', async () => {
    await using dir = await temporaryDir();
    const at = (name: string): string => join(dir.path, name);
    await keygen('-t', 'ed25519', '-N', '', '-f', at('ca'));
    await keygen('-t', 'ed25519', '-N', '', '-f', at('user'));
    await keygen('-s', at('ca'), '-I', 'id', '-n', 'gate', at('user.pub'));
    await using trusting = await startSshRig({
      sshd: {
        onlyGivenKeys: true,
        authorizedKeys: [`cert-authority ${(await readFile(at('ca.pub'), 'utf8')).trim()}`],
      },
    });
    const base = await resolveRig(trusting, { identity: [at('user')] });
    const { link } = recordedLink({
      ...base,
      certificateFiles: [at('user-cert.pub')],
      needsOpenssh: ['certificatefile'],
    });
    expect((await readAll(await link.open(exec('echo certified'), { signal }))).toString()).toBe('certified\n');
    await link.close();
  });

  test('where neither has what the server offers, it is said which of them is too old', async () => {
    await using old = await startSshRig({ sshd: { config: ['KexAlgorithms diffie-hellman-group1-sha1'] } });
    expect(await faultOf(await resolveRig(old))).toMatchObject({
      ...{ code: 'handshake', layer: 'kex' },
      message: expect.stringMatching(
        /is too old for the ssh of this machine \(OpenSSH_[\w.]+\): it has only the key exchange method diffie-hellman-group1-sha1$/,
      ),
      fix: expect.stringContaining('KexAlgorithms +diffie-hellman-group1-sha1'),
    });
  });

  test('auto takes it for what ssh finds by itself: a certificate beside a key or in the agent, a key in PKCS#8', async () => {
    await using dir = await temporaryDir();
    const at = (name: string): string => join(dir.path, name);
    await keygen('-t', 'ed25519', '-N', '', '-f', at('ca'));
    await keygen('-t', 'ed25519', '-N', '', '-f', at('user'));
    await keygen('-s', at('ca'), '-I', 'id', '-n', 'gate', at('user.pub'));
    await keygen('-t', 'rsa', '-m', 'PKCS8', '-N', '', '-f', at('pkcs8'));
    await using trusting = await startSshRig({
      sshd: {
        onlyGivenKeys: true,
        authorizedKeys: [
          `cert-authority ${(await readFile(at('ca.pub'), 'utf8')).trim()}`,
          (await readFile(at('pkcs8.pub'), 'utf8')).trim(),
        ],
      },
    });
    await using _agent = await startAgent(at('agent'));
    await addKey(at('agent'), at('user'));
    const ways: Partial<ResolvedHost>[] = [
      { identityFiles: [at('user')] },
      { identityFiles: [at('pkcs8')] },
      { identityFiles: [], identityAgent: at('agent'), identitiesOnly: false },
    ];
    const base = await resolveRig(trusting);
    for (const way of ways) {
      const { link } = recordedLink({ ...base, ...way });
      expect((await readAll(await link.open(exec('echo in'), { signal }))).toString()).toBe('in\n');
      await link.close();
      const error = await faultOf({ ...base, ...way, backend: 'ssh2' });
      expect(error).toMatchObject({ code: 'auth-failed', message: expect.stringContaining('backend = "openssh"') });
    }
  });

  test('auto takes it for a certificate of the host', async () => {
    await using dir = await temporaryDir();
    const at = (name: string): string => join(dir.path, name);
    await keygen('-t', 'ed25519', '-N', '', '-f', at('ca'));
    await using certified = await startSshRig();
    const [hostKey] = certified.ssh.hostKeys;
    await writeFile(at('host.pub'), `${hostKey?.publicKey}\n`);
    await keygen('-s', at('ca'), '-I', 'id', '-h', '-n', '127.0.0.1', at('host.pub'));
    await chmod(dir.path, 0o755);
    await certified.ssh.stop();
    await certified.ssh.start({ config: [`HostCertificate ${at('host-cert.pub')}`] });
    await writeFile(at('known_hosts'), `@cert-authority * ${await readFile(at('ca.pub'), 'utf8')}`);
    const host = await resolveRig(certified, { knownHosts: [at('known_hosts')] });
    const { link } = recordedLink(host);
    expect((await readAll(await link.open(exec('echo certified'), { signal }))).toString()).toBe('certified\n');
    await link.close();
    const error = await faultOf({ ...host, backend: 'ssh2' });
    expect(error).toMatchObject({ code: 'hostkey-unknown', message: expect.stringContaining('certificate authority') });
  });

  test('ssh ends with the process that started it, even killed', async () => {
    const before = await temporary();
    const script = `
      import { createLink, resolveHost } from ${JSON.stringify(new URL('../../index.ts', import.meta.url).href)};
      import { systemEnv } from '@postern/core';
      const host = await resolveHost('gate', { sshConfig: ${JSON.stringify(rig.client.configFile)}, overrides: { backend: 'openssh' } });
      const link = createLink(host, { env: systemEnv });
      await link.open({ type: 'exec', command: 'cat' }, { signal: new AbortController().signal });
      console.log('up');
      setInterval(() => {}, 1000);
    `;
    const argv = ['--conditions=@postern/source', '--import', 'tsx', '--input-type=module', '-e', script];
    const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'], cwd: import.meta.dirname });
    await once(child.stdout, 'data');
    const made = (await temporary()).find((name) => !before.includes(name)) ?? '';
    expect(await sshWith(made)).not.toEqual([]);
    child.kill('SIGKILL');
    await once(child, 'exit');
    while ((await sshWith(made)).length > 0) await settle();
  });
});

async function keygen(...args: string[]): Promise<void> {
  const [code] = await once(spawn('ssh-keygen', ['-q', ...args], { stdio: 'ignore' }), 'exit');
  expect(code).toBe(0);
}

/** Processes whose command line names this directory. */
async function sshWith(name: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry));
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  return lines.filter((line) => line.startsWith('ssh\0') && line.includes(`/${name}/`));
}
