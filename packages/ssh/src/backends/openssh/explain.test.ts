/** Which of two that have no algorithm in common is too old, by what ssh says. */
import { expect, test } from 'vitest';
import type { ResolvedHost } from '../../host/resolved-host.ts';
import { explainSsh } from './explain.ts';

const HOST = { hostname: 'far.example', port: 22 } as ResolvedHost;
const said = (kind: string, offer: string): string =>
  `OpenSSH_9.2p1 Debian-2, OpenSSL 3.0.15\nUnable to negotiate with 192.0.2.1 port 22: no matching ${kind} found. Their offer: ${offer}\n`;

test.each([
  ['key exchange method', 'mlkem768x25519-sha256,ext-info-s,kex-strict-s-v00@openssh.com', 'here', undefined],
  ['host key type', 'ssh-mldsa44-ed25519@openssh.com', 'here', undefined],
  ['key exchange method', 'diffie-hellman-group1-sha1', 'there', 'KexAlgorithms +diffie-hellman-group1-sha1'],
  ['host key type', 'ssh-rsa,ssh-dss', 'there', 'HostKeyAlgorithms +ssh-rsa'],
  ['cipher', '3des-cbc', 'there', 'Ciphers +3des-cbc'],
  ['MAC', 'hmac-md5', 'there', 'MACs +hmac-md5'],
])('%s %s: the old one is %s', (kind, offer, where, allowed) => {
  const error = explainSsh(HOST, { stderr: said(kind, offer), link: 'far' });
  expect(error).toMatchObject({ code: 'handshake', layer: 'kex' });
  expect(error.message).toMatch(
    where === 'here'
      ? /^the ssh of this machine \(OpenSSH_9\.2p1\) is too old for far\.example/
      : /^far\.example.* is too old for the ssh of this machine \(OpenSSH_9\.2p1\): it has only/,
  );
  expect(error.message).not.toContain('strict');
  if (allowed !== undefined) expect(error.fix).toContain(allowed);
});
