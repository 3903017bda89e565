import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { fetchTool } from './tools.ts';

/** A self-signed certificate in two files, and what they hold (PEM). */
export interface TestCertificate {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** Makes a certificate with openssl, good for two days: `NAME.pem` and `NAME-key.pem` in `dir`. `names` as openssl writes subjectAltName. */
export async function makeCertificate(o: {
  dir: string;
  names: readonly string[];
  name?: string;
}): Promise<TestCertificate> {
  const openssl = await fetchTool('openssl');
  const [certFile, keyFile] = [join(o.dir, `${o.name ?? 'cert'}.pem`), join(o.dir, `${o.name ?? 'cert'}-key.pem`)];
  const subject = ['-subj', '/CN=localhost', '-addext', `subjectAltName=${o.names.join()}`];
  const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  const args = ['req', '-x509', ...made, '-keyout', keyFile, '-out', certFile, ...subject];
  await promisify(execFile)(openssl.command, args, { env: { ...process.env, ...openssl.env } });
  return { certFile, keyFile, cert: await readFile(certFile), key: await readFile(keyFile) };
}
