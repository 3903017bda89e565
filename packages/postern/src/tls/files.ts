/** Where a certificate and its key lie. */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Where a certificate and its key lie. */
export interface TlsFiles {
  readonly certificate: string;
  readonly key: string;
  /** Made and kept by Postern. */
  readonly own: boolean;
}

/** The certificate and key of a listener's table: the user's own, or Postern's in the state directory. */
export function tlsFiles(
  values: { tls_certificate?: string | undefined; tls_key?: string | undefined } | undefined,
  stateDir: string,
): TlsFiles {
  if (values?.tls_certificate !== undefined && values.tls_key !== undefined) {
    return { certificate: values.tls_certificate, key: values.tls_key, own: false };
  }
  const dir = join(stateDir, 'tls');
  return { certificate: join(dir, 'cert.pem'), key: join(dir, 'key.pem'), own: true };
}

/** SHA-256 of the certificate in a PEM file, upper-case hex with colons; undefined when there is none. */
export function fingerprintOf(file: string): string | undefined {
  try {
    return new X509Certificate(readFileSync(file)).fingerprint256;
  } catch {
    return undefined;
  }
}
