/** Certificates made here: long-lived key, short subject, loopback names. */
// The library below injects by decorators, which need this first.
import 'reflect-metadata';
import { createPrivateKey, createPublicKey, generateKeyPairSync, webcrypto } from 'node:crypto';
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type JsonGeneralName,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';

const EC = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const SIGNATURE = { name: 'ECDSA', hash: 'SHA-256' } as const;
const DAY_MS = 86_400_000;

/** Days a certificate is good for: Apple's systems take none above 825. */
export const VALID_DAYS = 820;

/** A fresh key, PKCS #8 PEM. */
export function makeKey(): string {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: EC.namedCurve });
  return String(privateKey.export({ type: 'pkcs8', format: 'pem' }));
}

/**
 * A self-signed server certificate (RFC 5280) for this machine's own listeners: PEM, valid from an hour before `now` (wall clock, ms) for
 * {@link VALID_DAYS}. Its alternative names are `names`, `localhost`, 127.0.0.1 and ::1. Rejects when `key` is no P-256 key.
 */
export async function makeCertificate(key: string, o: { names: readonly string[]; now: number }): Promise<string> {
  const { subtle } = webcrypto;
  const secret = createPrivateKey(key);
  const pkcs8 = secret.export({ type: 'pkcs8', format: 'der' });
  const spki = createPublicKey(secret).export({ type: 'spki', format: 'der' });
  const privateKey = await subtle.importKey('pkcs8', pkcs8, EC, false, ['sign']);
  const publicKey = await subtle.importKey('spki', spki, EC, true, ['verify']);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: 'CN=Postern on this machine',
    notBefore: new Date(o.now - 3_600_000),
    notAfter: new Date(o.now + VALID_DAYS * DAY_MS),
    signingAlgorithm: SIGNATURE,
    keys: { privateKey, publicKey },
    extensions: [
      // No authority: whoever trusts it trusts this one server. Without a key usage, OpenSSL 1.1 still takes it as its own issuer.
      new BasicConstraintsExtension(false, undefined, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
      new SubjectAlternativeNameExtension(alternativeNames(o.names)),
      await SubjectKeyIdentifierExtension.create(publicKey),
    ],
  });
  return `${certificate.toString('pem').trim()}\n`;
}

function alternativeNames(names: readonly string[]): JsonGeneralName[] {
  const dns = [...new Set(['localhost', ...names])];
  return [
    ...dns.map((value): JsonGeneralName => ({ type: 'dns', value })),
    { type: 'ip', value: '127.0.0.1' },
    { type: 'ip', value: '::1' },
  ];
}

/** Positive and 127 bits (RFC 5280 §4.1.2.2). */
function serialNumber(): string {
  const octets = webcrypto.getRandomValues(new Uint8Array(16));
  octets[0] = ((octets[0] ?? 0) & 0x7f) | 0x40;
  return Buffer.from(octets).toString('hex');
}
