import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemEnv } from '@postern/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readAll } from '../conformance.test-util.ts';
import { reached, recordedLink, resolveRig, type SshRig, startSshRig, temporaryDir } from '../rig.test-util.ts';
import { acceptNewHostKey } from './accept.ts';

const signal = new AbortController().signal;
const TRUE = { type: 'exec', command: 'true' } as const;

describe('the host key of a real sshd', () => {
  let rig: SshRig;
  let other: SshRig;
  beforeAll(async () => {
    [rig, other] = await Promise.all([startSshRig({ sshd: { hostKeys: ['ed25519', 'rsa', 'ecdsa'] } }), startSshRig()]);
  });
  afterAll(() => Promise.all([rig?.stop(), other?.stop()]));

  const address = (): string => `[127.0.0.1]:${rig.ssh.port}`;
  const authAttempts = (): number =>
    rig.ssh.log().filter((line) => /userauth|publickey|Postponed|Accepted/i.test(line)).length;

  /** Opens a channel with this known_hosts file. */
  async function openWith(lines: readonly string[]): Promise<{ error: unknown; file: string }> {
    await using dir = await temporaryDir();
    const file = join(dir.path, 'known_hosts');
    await writeFile(file, `${lines.join('\n')}\n`);
    const { link } = recordedLink(await resolveRig(rig, { knownHosts: [file], backend: 'ssh2' }));
    const error = await link.open(TRUE, { signal }).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    await link.close();
    return { error, file };
  }

  test('known: comes in, whichever of its keys is known', async () => {
    for (const key of rig.ssh.hostKeys) {
      expect((await openWith([`${address()} ${key.publicKey}`])).error).toBeUndefined();
    }
  });

  test('unknown: no authentication byte, the fingerprint, and the command that would accept it', async () => {
    const before = authAttempts();
    const { error } = await openWith([]);
    expect(error).toMatchObject({ code: 'hostkey-unknown', layer: 'hostkey', permanent: true });
    expect(error).toMatchObject({
      message: expect.stringContaining(
        `host key of ${address()} is not known: it offers ssh-ed25519 ${rig.ssh.fingerprint}`,
      ),
      fix: expect.stringMatching(/postern check --accept-new-host-key gate$/),
    });
    expect(authAttempts()).toBe(before);
  });

  test('changed: names file and line, and the ssh-keygen line that removes the old one', async () => {
    const before = authAttempts();
    const { error, file } = await openWith(['# first line', `${address()} ${other.ssh.hostKey}`]);
    expect(error).toMatchObject({
      code: 'hostkey-changed',
      message: expect.stringContaining(`${file}:2`),
      fix: expect.stringContaining(`ssh-keygen -R '${address()}' -f ${file}`),
    });
    expect(authAttempts()).toBe(before);
  });

  test('revoked: stays out though it is known', async () => {
    const { error } = await openWith([`${address()} ${rig.ssh.hostKey}`, `@revoked * ${rig.ssh.hostKey}`]);
    expect(error).toMatchObject({ code: 'hostkey-revoked', fix: undefined });
  });

  test('named only by an authority: says what host certificates need', async () => {
    const { error } = await openWith([`@cert-authority * ${other.ssh.hostKey}`]);
    expect(error).toMatchObject({ code: 'hostkey-unknown', message: expect.stringContaining('backend = "openssh"') });
  });

  test('revoked by RevokedHostKeys; a list that cannot be read refuses too', async () => {
    await using dir = await temporaryDir();
    const revokedHostKeys = join(dir.path, 'revoked');
    await writeFile(revokedHostKeys, `${rig.ssh.hostKey}\n`);
    const host = { ...(await resolveRig(rig)), revokedHostKeys };
    const { link } = recordedLink(host);
    await expect(link.open(TRUE, { signal })).rejects.toMatchObject({ code: 'hostkey-revoked' });
    await link.close();
    const { link: blind } = recordedLink({ ...host, revokedHostKeys: join(dir.path, 'absent') });
    await expect(blind.open(TRUE, { signal })).rejects.toMatchObject({ code: 'config', layer: 'hostkey' });
    await blind.close();
  });

  test('is looked up under HostKeyAlias without the port', async () => {
    await using dir = await temporaryDir();
    const file = join(dir.path, 'known_hosts');
    await writeFile(file, `door ${rig.ssh.hostKey}\n`);
    const { link } = recordedLink({ ...(await resolveRig(rig, { knownHosts: [file] })), hostKeyAlias: 'door' });
    await (await link.open(TRUE, { signal })).exit;
    await link.close();
  });

  test.each([false, true])(
    'accepted on request, it is appended and good from then on (hashed: %s)',
    async (hashKnownHosts) => {
      await using dir = await temporaryDir();
      const file = join(dir.path, 'new', 'known_hosts');
      const host = { ...(await resolveRig(rig, { knownHosts: [file] })), hashKnownHosts };
      const accepted = await acceptNewHostKey(host, { env: systemEnv, signal });
      expect(accepted).toEqual([{ name: address(), type: 'ssh-ed25519', fingerprint: rig.ssh.fingerprint, file }]);
      expect((await readFile(file, 'utf8')).startsWith('|1|')).toBe(hashKnownHosts);
      expect(await acceptNewHostKey(host, { env: systemEnv, signal })).toEqual([]);
      const { link } = recordedLink(host);
      await (await link.open(TRUE, { signal })).exit;
      await link.close();
    },
  );

  test('accepted on request also where the key for authentication is missing', async () => {
    await using dir = await temporaryDir();
    const file = join(dir.path, 'known_hosts');
    await writeFile(file, 'other ssh-ed25519 AAAA'); // no newline at its end
    const host = await resolveRig(rig, { knownHosts: [file], identity: [] });
    expect(await acceptNewHostKey(host, { env: systemEnv, signal })).toHaveLength(1);
    expect((await readFile(file, 'utf8')).split('\n')).toEqual([
      'other ssh-ed25519 AAAA',
      `${address()} ${rig.ssh.hostKey.split(' ').slice(0, 2).join(' ')}`,
      '',
    ]);
  });

  test('changed, it is never accepted on request', async () => {
    await using dir = await temporaryDir();
    const file = join(dir.path, 'known_hosts');
    const text = `${address()} ${other.ssh.hostKey}\n`;
    await writeFile(file, text);
    const host = await resolveRig(rig, { knownHosts: [file] });
    const accepting = acceptNewHostKey(host, { env: systemEnv, signal });
    await expect(accepting).rejects.toMatchObject({ code: 'hostkey-changed' });
    expect(await readFile(file, 'utf8')).toBe(text);
  });

  test('unknown, the link rests until known_hosts changes, and then comes up by itself', async () => {
    await using dir = await temporaryDir();
    const file = join(dir.path, 'known_hosts');
    const { link, events } = recordedLink(await resolveRig(rig, { knownHosts: [file] }));
    await expect(link.open(TRUE, { signal })).rejects.toMatchObject({ code: 'hostkey-unknown' });
    expect(link.state).toMatchObject({ type: 'down', error: { code: 'hostkey-unknown' } });
    expect(link.state).not.toHaveProperty('retryAt');
    link.wake('login');
    expect(link.state.type).toBe('down');
    await writeFile(file, `${address()} ${rig.ssh.hostKey}\n`);
    await reached(link, 'up');
    const channel = await link.open({ type: 'exec', command: 'echo in' }, { signal });
    expect((await readAll(channel)).toString()).toBe('in\n');
    expect(events.filter((event) => event.type === 'dialling')).toHaveLength(2);
    await link.close();
  });
});
