import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { virtualEnv } from '@postern/testkit';
import { expect, onTestFinished, test } from 'vitest';
import { makeCertificate, makeKey, VALID_DAYS } from './certificate.ts';
import { tlsFiles } from './files.ts';
import { ensureOwnCertificate, openTlsIdentities, type TlsEvent } from './identity.ts';

const DAY_MS = 86_400_000;

function stateDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'identity-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  return dir;
}

const read = (file: string): X509Certificate => new X509Certificate(readFileSync(file));

test('a certificate is made once, and anew with the same key before its end or under another name', async () => {
  const files = tlsFiles({}, stateDir());
  const now = Date.now();
  const ensure = (hostname: string, later = 0) => ensureOwnCertificate(files, { hostname, now: now + later });
  expect(await ensure('laptop')).toBe(true);
  expect(statSync(files.key).mode & 0o777).toBe(0o600);
  const [first, key] = [read(files.certificate), readFileSync(files.key, 'utf8')];
  expect(await ensure('laptop')).toBe(false);
  expect(await ensure('laptop', (VALID_DAYS - 61) * DAY_MS)).toBe(false);
  expect(await ensure('laptop', (VALID_DAYS - 59) * DAY_MS)).toBe(true);
  expect(await ensure('desk')).toBe(true);
  expect(read(files.certificate).checkHost('desk')).toBe('desk');
  expect(read(files.certificate).fingerprint256).not.toBe(first.fingerprint256);
  expect(readFileSync(files.key, 'utf8')).toBe(key);
});

test('a damaged key is not replaced behind the back of those who trust it', async () => {
  const files = tlsFiles({}, stateDir());
  await ensureOwnCertificate(files, { hostname: 'laptop', now: Date.now() });
  writeFileSync(files.key, 'damaged');
  writeFileSync(files.certificate, 'damaged');
  await expect(ensureOwnCertificate(files, { hostname: 'laptop', now: Date.now() })).rejects.toMatchObject({
    code: 'io',
    fix: expect.stringContaining(files.key),
  });
});

test('a running daemon renews its own in time', async () => {
  const env = virtualEnv({ startMs: Date.now() });
  const events: TlsEvent[] = [];
  using identities = openTlsIdentities({ hostname: 'laptop', env, onEvent: (event) => void events.push(event) });
  const identity = await identities.of(tlsFiles({}, stateDir()));
  const before = identity.fingerprint;
  for (let day = 0; day < VALID_DAYS - 30 && events.length === 0; day += 1) {
    await env.advance(DAY_MS);
  }
  await expect.poll(() => events.length).toBe(1);
  expect(events[0]).toMatchObject({ type: 'renewed', fingerprint: identity.fingerprint });
  expect(identity.fingerprint).not.toBe(before);
});

test("the user's own is read anew when it changes; while it cannot be used the old one stays", async () => {
  const dir = stateDir();
  const files = tlsFiles({ tls_certificate: join(dir, 'c.pem'), tls_key: join(dir, 'k.pem') }, dir);
  const [key, other] = [makeKey(), makeKey()];
  const make = (from: string) => makeCertificate(from, { names: ['mail.example'], now: Date.now() });
  writeFileSync(files.key, key);
  writeFileSync(files.certificate, await make(key));
  const env = virtualEnv({ startMs: Date.now() });
  const events: TlsEvent[] = [];
  using identities = openTlsIdentities({ hostname: 'laptop', env, onEvent: (event) => void events.push(event) });
  const identity = await identities.of(files);
  const context = identity.context();
  expect(identity.context()).toBe(context);
  writeFileSync(files.certificate, `${await make(other)}\n`);
  expect(identity.context()).toBe(context);
  expect(events).toMatchObject([{ type: 'unusable', file: files.certificate }]);
  writeFileSync(files.key, other);
  expect(identity.context()).not.toBe(context);
  expect(events.at(-1)).toMatchObject({ type: 'renewed', fingerprint: read(files.certificate).fingerprint256 });
});
