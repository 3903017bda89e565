import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemEnv } from '@postern/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { acceptNewHostKey } from './auth/accept.ts';
import { readAll, streamError } from './conformance.test-util.ts';
import type { ResolvedHost } from './host/resolved-host.ts';
import { reached, recordedLink, resolveRig, type SshRig, startSshRig, temporaryDir } from './rig.test-util.ts';

const signal = new AbortController().signal;
const exec = (command: string): { type: 'exec'; command: string } => ({ type: 'exec', command });
type Server = SshRig['ssh'];

describe('jump hosts, three real sshds deep', () => {
  let rig: SshRig;
  let hops: Record<'one' | 'two' | 'end', Server>;
  beforeAll(async () => {
    rig = await startSshRig();
    const one = await rig.addSshd({ name: 'one', hostKeys: ['ed25519'] });
    const two = await rig.addSshd({ name: 'two', hostKeys: ['ecdsa'], client: ['ProxyJump one'] });
    const end = await rig.addSshd({ name: 'end', hostKeys: ['rsa'], client: ['ProxyJump gate,two'] });
    hops = { one, two, end };
  });
  afterAll(() => rig?.stop());

  test('each hop is passed, in order, with its own host key and login', async () => {
    const host = await resolveRig(rig, {}, 'end');
    expect(host.jump.map((hop) => hop.host)).toEqual(['gate', 'two']);
    const deep = await resolveRig(rig, { jump: ['gate', 'one', 'two'] }, 'end');
    const { link, events } = recordedLink(deep);
    const channel = await link.open(exec('echo through'), { signal });
    expect((await readAll(channel)).toString()).toBe('through\n');
    const passed = events.flatMap((event) => (event.type === 'passed' ? [`${event.hop ?? 'end'} ${event.step}`] : []));
    expect(passed.filter((line) => line.endsWith('auth'))).toEqual(['gate auth', 'one auth', 'two auth', 'end auth']);
    await link.close();
    expect(await hops.end.waitForLog(/Accepted publickey/)).toBeDefined();
  });

  /** The chain gate, one, two, end with one host changed. */
  async function chainWith(name: string, change: (host: ResolvedHost) => ResolvedHost): Promise<ResolvedHost> {
    const host = await resolveRig(rig, { jump: ['gate', 'one', 'two'] }, 'end');
    const jump = host.jump.map((hop) => (hop.host === name ? change(hop) : hop));
    return { ...(name === 'end' ? change(host) : host), jump };
  }

  test.each(['gate', 'one', 'two'])(
    'an unknown host key at %s is named, and nothing is said to that hop',
    async (name) => {
      const server = name === 'gate' ? rig.ssh : hops[name as 'one'];
      const before = server.log().filter((line) => /publickey/.test(line)).length;
      const host = await chainWith(name, (hop) => ({ ...hop, userKnownHostsFiles: ['/nonexistent'] }));
      const { link } = recordedLink(host);
      await expect(link.open(exec('true'), { signal })).rejects.toMatchObject({
        code: 'hostkey-unknown',
        hop: name,
        message: expect.stringMatching(new RegExp(`^at jump host ${name}: .*host key`)),
        fix: expect.stringContaining('--accept-new-host-key end'),
      });
      expect(server.log().filter((line) => /publickey/.test(line)).length).toBe(before);
      await link.close();
    },
  );

  test('a key refused at a hop is named', async () => {
    const { link } = recordedLink(await chainWith('two', (hop) => ({ ...hop, identityFiles: [] })));
    await expect(link.open(exec('true'), { signal })).rejects.toMatchObject({ code: 'auth-failed', hop: 'two' });
    await link.close();
  });

  test('a hop that cannot reach the next one is a fault of the way, and is tried again', async () => {
    const { link } = recordedLink(await chainWith('two', (hop) => ({ ...hop, port: 1 })));
    link.wake('flush');
    const state = await reached(link, 'down');
    expect(state).toMatchObject({
      error: { code: 'unreachable', layer: 'jump', hop: 'two' },
      retryAt: expect.any(Number),
    });
    await link.close();
  });

  test.each(['gate', 'one', 'two'])('%s dying ends the link, and it comes back by itself', async (name) => {
    const server = name === 'gate' ? rig.ssh : hops[name as 'one'];
    const { link } = recordedLink(await chainWith('', (hop) => hop));
    const channel = await link.open(exec('cat'), { signal });
    const failing = streamError(channel);
    await server.dropConnections();
    expect(await failing).toMatchObject({ code: 'lost' });
    expect((await readAll(await link.open(exec('echo back'), { signal }))).toString()).toBe('back\n');
    await link.close();
  });

  test('new keys along the way are accepted on request, hop by hop', async () => {
    await using dir = await temporaryDir();
    const file = join(dir.path, 'known_hosts');
    await writeFile(file, '');
    const host = await resolveRig(rig, { jump: ['one', 'two'] }, 'end');
    const fresh = (one: ResolvedHost): ResolvedHost => ({ ...one, userKnownHostsFiles: [file] });
    const accepted = await acceptNewHostKey({ ...fresh(host), jump: host.jump.map(fresh) }, { env: systemEnv, signal });
    expect(accepted.map((key) => key.type)).toEqual(['ssh-ed25519', 'ecdsa-sha2-nistp256', 'ssh-rsa']);
  });
});

describe('ProxyCommand', () => {
  let rig: SshRig;
  beforeAll(async () => {
    rig = await startSshRig();
  });
  afterAll(() => rig?.stop());
  /** Joins stdin and stdout to the port, as netcat would. */
  const bridge = (port: number): string =>
    `${process.execPath} -e "const s=require('net').connect(${port},'127.0.0.1');process.stdin.pipe(s);s.pipe(process.stdout);s.on('error',()=>process.exit(1))"`;

  test('carries the link', async () => {
    const { link } = recordedLink({ ...(await resolveRig(rig)), proxyCommand: bridge(rig.ssh.port) });
    expect((await readAll(await link.open(exec('echo hi'), { signal }))).toString()).toBe('hi\n');
    await link.close();
  });

  test('that fails is a fault that names it, with its own words', async () => {
    const proxyCommand = 'sh -c \'echo no way >&2; echo "\\033through" >&2; exit 3\'';
    const { link } = recordedLink({ ...(await resolveRig(rig)), proxyCommand });
    link.wake('flush');
    const message = expect.stringContaining('ProxyCommand ended with status 3: no way \\x1bthrough');
    expect(await reached(link, 'down')).toMatchObject({ error: { message } });
    await link.close();
  });

  test('that does not exist is too', async () => {
    const { link } = recordedLink({ ...(await resolveRig(rig)), proxyCommand: '/nonexistent/proxy %h' });
    link.wake('flush');
    expect(await reached(link, 'down')).toMatchObject({ error: { message: expect.stringContaining('ProxyCommand') } });
    await link.close();
  });
});
