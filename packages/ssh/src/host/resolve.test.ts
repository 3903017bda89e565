import { mkdir, writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryDir } from '../rig.test-util.ts';
import { type ResolveOptions, resolveHost } from './resolve.ts';
import type { HostOverrides, ResolvedHost } from './resolved-host.ts';

/** Resolves with this ssh_config, in a home of its own. */
async function resolveWith(
  config: string,
  name: string,
  o: { overrides?: HostOverrides; environment?: NodeJS.ProcessEnv } = {},
): Promise<{ host: ResolvedHost; home: string }> {
  await using dir = await temporaryDir();
  await mkdir(join(dir.path, '.ssh'));
  await writeFile(join(dir.path, '.ssh/config'), config.replaceAll('DIR', dir.path));
  await writeFile(join(dir.path, '.ssh/more'), 'Host included\n  HostName inc.example\n');
  const environment = { PATH: process.env.PATH, HOME: dir.path, ...o.environment };
  const options: ResolveOptions = { environment, ...(o.overrides === undefined ? {} : { overrides: o.overrides }) };
  return { host: await resolveHost(name, options), home: dir.path };
}

test('a name nothing is said of gets the defaults of ssh, in the home it was told of', async () => {
  const { host, home } = await resolveWith('', 'gate.example');
  expect(host).toMatchObject({
    host: 'gate.example',
    hostname: 'gate.example',
    port: 22,
    user: userInfo().username,
    jump: [],
    compression: false,
    keepaliveMs: 5000,
    backend: 'auto',
    userKnownHostsFiles: [join(home, '.ssh/known_hosts'), join(home, '.ssh/known_hosts2')],
    sshConfig: join(home, '.ssh/config'),
  });
  expect(host.identityFiles).toContain(join(home, '.ssh/id_ed25519'));
  expect(host).not.toHaveProperty('identityAgent');
});

test('ssh_config is read by ssh itself: Include, Match exec and tokens count', async () => {
  const config = [
    'Include DIR/.ssh/more',
    'Host gate',
    '  HostName 127.0.0.1',
    '  Port 2222',
    '  User me',
    '  IdentityFile ~/.ssh/%n_%r',
    '  UserKnownHostsFile DIR/kh1 DIR/kh2',
    '  HostKeyAlias door',
    '  ConnectTimeout 7',
    'Match host 127.0.0.1 exec true',
    '  Compression yes',
  ].join('\n');
  const { host, home } = await resolveWith(config, 'gate');
  expect(host).toMatchObject({
    host: 'gate',
    hostname: '127.0.0.1',
    port: 2222,
    user: 'me',
    identityFiles: [join(home, '.ssh/gate_me')],
    userKnownHostsFiles: [join(home, 'kh1'), join(home, 'kh2')],
    hostKeyAlias: 'door',
    connectTimeoutMs: 7000,
    compression: true,
  });
  expect((await resolveWith('Include DIR/.ssh/more', 'included')).host.hostname).toBe('inc.example');
});

test('a name with spaces in a list of files stays one name', async () => {
  const config = 'UserKnownHostsFile "DIR/my own/known hosts" ~/.ssh/known_hosts /etc/kh\n';
  const { host, home } = await resolveWith(config, 'gate');
  expect(host.userKnownHostsFiles).toEqual([
    join(home, 'my own/known hosts'),
    join(home, '.ssh/known_hosts'),
    '/etc/kh',
  ]);
});

test('overrides win', async () => {
  const config = 'Host real.example\n  Port 23\n  User cfg\n  IdentityFile ~/a\n  ProxyJump old\n';
  const overrides: HostOverrides = {
    destination: 'me@real.example:24',
    identity: ['~/mine'],
    knownHosts: ['/kh'],
    compression: true,
    keepaliveMs: 1000,
    backend: 'ssh2',
    jump: [],
  };
  const { host, home } = await resolveWith(config, 'gate', { overrides });
  expect(host).toMatchObject({
    host: 'gate',
    original: 'real.example',
    hostname: 'real.example',
    port: 24,
    user: 'me',
    identityFiles: [join(home, 'mine')],
    userKnownHostsFiles: ['/kh'],
    globalKnownHostsFiles: [],
    compression: true,
    keepaliveMs: 1000,
    backend: 'ssh2',
    jump: [],
  });
});

test('jump hosts come in the order they are dialled, each with its own settings', async () => {
  const config = [
    'Host gate',
    '  ProxyJump b,me@c:2200',
    'Host b',
    '  ProxyJump a',
    '  User bob',
    'Host c',
    '  ProxyJump not-used-behind-b',
    '  HostName 10.0.0.3',
    'Host a',
    '  Port 2022',
  ].join('\n');
  const { host } = await resolveWith(config, 'gate');
  expect(host.jump.map(({ host: name, hostname, user, port }) => [name, hostname, user, port])).toEqual([
    ['a', 'a', userInfo().username, 2022],
    ['b', 'b', 'bob', 22],
    ['me@c:2200', '10.0.0.3', 'me', 2200],
  ]);
  const { host: direct } = await resolveWith(config, 'gate', { overrides: { jump: ['a'] } });
  expect(direct.jump.map(({ host: name }) => name)).toEqual(['a']);
});

test('a ProxyJump that matches the jump host too is refused, as ssh does, unless overridden', async () => {
  const config = 'Host *\n  ProxyJump bastion\n';
  await expect(resolveWith(config, 'gate')).rejects.toMatchObject({ message: expect.stringContaining('loop') });
  const { host } = await resolveWith(config, 'bastion', { overrides: { jump: [] } });
  expect(host.jump).toEqual([]);
});

test('a circle of jump hosts is an error, not an endless walk', async () => {
  const resolving = resolveWith('Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n', 'a');
  await expect(resolving).rejects.toMatchObject({ code: 'config', message: expect.stringContaining('circle') });
});

test('ProxyCommand has its tokens expanded, and gives way to a jump', async () => {
  const config = 'Host gate\n  HostName h.example\n  User me\n  ProxyCommand nc -X 5 %h %p %% %r %n\n';
  expect((await resolveWith(config, 'gate')).host.proxyCommand).toBe('nc -X 5 h.example 22 % me gate');
  const { host } = await resolveWith(config, 'gate', { overrides: { jump: ['x'] } });
  expect(host).not.toHaveProperty('proxyCommand');
});

test.each([
  ['', '/run/agent', '/run/agent'],
  ['IdentityAgent none', '/run/agent', undefined],
  ['IdentityAgent SSH_AUTH_SOCK', '/run/agent', '/run/agent'],
  ['IdentityAgent $OTHER', '/run/agent', '/run/other'],
  ['IdentityAgent ~/sock', undefined, 'HOME/sock'],
])('%j with SSH_AUTH_SOCK=%s means the agent %s', async (config, SSH_AUTH_SOCK, want) => {
  const environment = { OTHER: '/run/other', ...(SSH_AUTH_SOCK === undefined ? {} : { SSH_AUTH_SOCK }) };
  const { host, home } = await resolveWith(config, 'gate', { environment });
  expect(host.identityAgent).toBe(want?.replace('HOME', home));
});

test('what ssh takes for itself stops nothing: a user of a Windows domain, ForkAfterAuthentication', async () => {
  await using dir = await temporaryDir();
  const sshConfig = join(dir.path, 'config');
  await writeFile(sshConfig, 'Host gate\n  User CORP\\me\n  ForkAfterAuthentication yes\n');
  expect(await resolveHost('gate', { sshConfig, environment: { PATH: process.env.PATH } })).toMatchObject({
    user: 'CORP\\me',
  });
});

test('settings only the system ssh can honour are named', async () => {
  const { host } = await resolveWith('CertificateFile ~/cert\nPKCS11Provider /lib/p.so\n', 'gate');
  expect(host.needsOpenssh).toEqual(['certificatefile', 'pkcs11provider']);
});

test.each(['-oProxyCommand=id', 'a b', ''])('the name %j never reaches a command line', async (name) => {
  await expect(resolveHost(name)).rejects.toMatchObject({ code: 'config' });
});

test('a HostName that would be an option is refused', async () => {
  await expect(resolveWith('HostName -oX\n', 'gate')).rejects.toMatchObject({ code: 'config' });
});

test('a broken ssh_config is an error with the words of ssh', async () => {
  const resolving = resolveWith('Nonsense yes\n', 'gate');
  await expect(resolving).rejects.toMatchObject({ code: 'config', message: expect.stringMatching(/nonsense/i) });
});

test('without ssh on this machine the defaults and overrides count alone', async () => {
  const overrides = { destination: 'me@h.example:2222' };
  const host = await resolveHost('gate', { home: '/h', environment: { PATH: '/nonexistent' }, overrides });
  expect(host).toMatchObject({ hostname: 'h.example', port: 2222, user: 'me' });
  expect(host.userKnownHostsFiles[0]).toBe('/h/.ssh/known_hosts');
});
