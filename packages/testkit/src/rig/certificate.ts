/** Certificates for tests: self-signed, in a directory that goes with the test. */
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
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

/**
 * Makes a certificate with openssl, good for two days: `NAME.pem` and `NAME-key.pem` in `dir`. `names` as openssl
 * writes subjectAltName.
 */
export async function makeCertificate(o: {
  dir: string;
  names: readonly string[];
  name?: string;
}): Promise<TestCertificate> {
  const openssl = await fetchTool('openssl');
  const [certFile, keyFile] = [join(o.dir, `${o.name ?? 'cert'}.pem`), join(o.dir, `${o.name ?? 'cert'}-key.pem`)];
  // Its own configuration lies where the package would be installed.
  const config = join(o.dir, 'openssl.cnf');
  await writeFile(config, '[req]\ndistinguished_name = name\n[name]\n');
  const extensions = ['-addext', `subjectAltName=${o.names.join()}`, '-addext', 'basicConstraints=critical,CA:TRUE'];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', keyFile];
  const args = [
    'req',
    '-config',
    config,
    '-x509',
    '-days',
    '2',
    '-subj',
    '/CN=localhost',
    ...extensions,
    ...key,
    '-out',
    certFile,
  ];
  await promisify(execFile)(openssl.command, args, { env: { ...process.env, ...openssl.env } });
  return { certFile, keyFile, cert: await readFile(certFile), key: await readFile(keyFile) };
}
