import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { type Gate, readMaildir } from '@postern/gate';
import { fetchTool, makeCertificate, mbsyncTlsKeyword, startRig } from '@postern/testkit/rig';
import { createTransport } from 'nodemailer';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hostPort, makePlace, type Place, postern, run, runTool, type Up, up } from './support/postern.ts';

/** The certificate Postern makes for itself, verified by real clients on every listener. */
let gate: Gate;
let place: Place;
let daemon: Up;
let certificate: string;
const ME = 'gate@gate.test';
const CONFIG = `
[[imap]]
listen = ["127.0.0.1:0", "[::1]:0"]
host = "gate"
tls = "starttls"
[[imap]]
listen = ["127.0.0.1:0", "unix:imap.sock"]
host = "gate"
tls = "implicit"
[smtp]
listen = ["127.0.0.1:0"]
tls = "starttls"
[[route]]
match = ["*"]
host = "gate"
`;

beforeAll(async () => {
  gate = await startRig();
  place = await makePlace(gate, CONFIG, 'tls');
  daemon = await up(place);
  certificate = join(place.dir, 'state', 'tls', 'cert.pem');
});
afterAll(async () => {
  await daemon?.stop();
  await gate?.stop();
});

const plus = (name: string): string => `${name}:${hostPort(daemon.imap[0]).port}`;

describe('the certificate', () => {
  test('is for this machine, has a key nobody else can read, and its fingerprint is told everywhere', async () => {
    const made = new X509Certificate(readFileSync(certificate));
    for (const name of ['localhost', hostname().toLowerCase()]) expect(made.checkHost(name)).toBe(name);
    for (const address of ['127.0.0.1', '::1']) expect(made.checkIP(address)).toBe(address);
    expect(made.ca).toBe(false);
    expect((Date.parse(made.validTo) - Date.parse(made.validFrom)) / 86_400_000).toBeLessThan(825);
    expect(statSync(join(place.dir, 'state', 'tls', 'key.pem')).mode & 0o777).toBe(0o600);
    expect(daemon.log()).toContain(made.fingerprint256);
    expect((await postern(place, ['status'])).stdout).toContain(made.fingerprint256);
    expect((await postern(place, ['setup', 'thunderbird'])).stdout).toContain(made.fingerprint256);
  });

  test('outlives a restart', async () => {
    const before = readFileSync(certificate, 'utf8');
    await daemon.stop();
    daemon = await up(place);
    expect(readFileSync(certificate, 'utf8')).toBe(before);
  });

  test("may be the user's own, and one that does not fit its key is refused", async () => {
    const own = join(gate.dir, 'own');
    await mkdir(own, { recursive: true });
    const { certFile: cert, keyFile: key } = await makeCertificate({ dir: own, names: ['IP:127.0.0.1'] });
    const table = `[[imap]]\nlisten = ["127.0.0.1:0"]\nhost = "gate"\ntls = "implicit"\ntls_certificate = "${cert}"\n`;
    const good = await makePlace(gate, `${table}tls_key = "${key}"\n`, 'own-good');
    await using served = await up(good);
    const read = await runTool('curl', ['-sS', '--cacert', cert, `imaps://${served.imap[0]}/`, '-u', 'a:b']);
    expect(read, read.stderr).toMatchObject({ code: 0, stdout: expect.stringContaining('INBOX') });
    const bad = await makePlace(gate, `${table}tls_key = "${join(place.dir, 'state', 'tls', 'key.pem')}"\n`, 'own-bad');
    const refused = await postern(bad, ['up']);
    expect(refused.code).toBe(78);
    expect(refused.stderr).toContain(cert);
  });
});

describe('IMAP over TLS', () => {
  test.each(['127.0.0.1', 'localhost'])(
    'curl trusts it as %s with STARTTLS, and nothing is to be had in plain',
    async (name) => {
      const args = ['-sS', `imap://${plus(name)}/`, '-u', 'a:b'];
      const read = await runTool('curl', [...args, '--ssl-reqd', '--cacert', certificate]);
      expect(read, read.stderr).toMatchObject({ code: 0, stdout: expect.stringContaining('INBOX') });
      expect((await runTool('curl', [...args, '--ssl-reqd'])).code).toBe(60);
      expect((await runTool('curl', args)).code).not.toBe(0);
    },
  );

  test('openssl verifies it on every listener', async () => {
    const probes: [string | undefined, string[]][] = [
      [daemon.imap[0], ['-starttls', 'imap']],
      [daemon.imap[1], ['-starttls', 'imap']],
      [daemon.imap[2], []],
      [daemon.smtp[0], ['-starttls', 'smtp']],
    ];
    for (const [address, how] of probes) {
      const connect = ['-connect', address ?? '', '-CAfile', certificate, '-verify_return_error', '-brief'];
      const ip = ['-verify_ip', hostPort(address).host.replace(/[[\]]/g, '')];
      const ran = await runTool('openssl', ['s_client', ...connect, ...ip, ...how], { input: 'Q\n' });
      expect(ran.stderr + ran.stdout, `${address}`).toContain('Verification: OK');
    }
  });

  test("python's imaplib, verifying, by both ways", async () => {
    const script = `
import imaplib, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
plain = imaplib.IMAP4('localhost', int(sys.argv[2])); plain.starttls(context)
for client in (plain, imaplib.IMAP4_SSL('127.0.0.1', int(sys.argv[3]), ssl_context=context)):
    client.login('a', 'b'); print(client.select('INBOX')[0]); client.logout()
`;
    const ports = [daemon.imap[0], daemon.imap[2]].map((address) => String(hostPort(address).port));
    const ran = await runTool('python3', ['-c', script, certificate, ...ports]);
    expect(ran, ran.stderr).toMatchObject({ code: 0, stdout: 'OK\nOK\n' });
  });

  test.each(['STARTTLS', 'IMAPS'])('mbsync with CertificateFile, %s', async (type) => {
    const dir = join(gate.dir, `mbsync-${type}`);
    await mkdir(join(dir, 'mail'), { recursive: true });
    const { host, port } = hostPort(daemon.imap[type === 'IMAPS' ? 2 : 0]);
    const config = [
      ...['IMAPAccount p', `Host ${host}`, `Port ${port}`, 'User a', 'Pass b', `${await mbsyncTlsKeyword()} ${type}`],
      ...[`CertificateFile ${certificate}`, 'SystemCertificates no', '', 'IMAPStore far', 'Account p', ''],
      ...[
        'MaildirStore near',
        `Path ${dir}/mail/`,
        `Inbox ${dir}/mail/INBOX`,
        '',
        'Channel c',
        'Far :far:',
        'Near :near:',
      ],
      ...['Patterns INBOX', 'Create Near', `SyncState ${dir}/state`, ''],
    ];
    await writeFile(join(dir, 'mbsyncrc'), config.join('\n'));
    const tool = await fetchTool('mbsync');
    const env = { ...process.env, ...tool.env, HOME: dir };
    const ran = await run(tool.command, [...tool.args, '-c', join(dir, 'mbsyncrc'), 'c'], { env });
    expect(ran, ran.stderr).toMatchObject({ code: 0 });
  });
});

describe('SMTP with STARTTLS', () => {
  test('a message goes through, and its Received line says so', async () => {
    const tls = { ca: readFileSync(certificate) };
    const transport = createTransport({ ...hostPort(daemon.smtp[0]), secure: false, requireTLS: true, tls });
    await transport.sendMail({ from: ME, to: ME, subject: 'over-tls', text: 'hi\n' });
    const found = async (): Promise<string> =>
      (await readMaildir(gate.maildir)).map(String).find((text) => text.includes('Subject: over-tls')) ?? '';
    await expect.poll(found, { timeout: 30_000 }).toMatch(/\(Postern\)\r?\n\twith ESMTPS id /);
  });

  test('what was pipelined behind STARTTLS in plain is gone', async () => {
    const { host, port } = hostPort(daemon.smtp[0]);
    const socket = connect(port, host);
    const heard = (stream: Duplex): Promise<string> => once(stream, 'data').then(([chunk]) => String(chunk));
    expect(await heard(socket)).toMatch(/^220 /);
    socket.write('EHLO x\r\n');
    expect(await heard(socket)).toMatch(/^250-/);
    socket.write('STARTTLS\r\nEHLO evil\r\nMAIL FROM:<evil@x.example>\r\n');
    expect(await heard(socket)).toBe('220 2.0.0 Ready to start TLS\r\n');
    const secure = connectTls({ socket, ca: readFileSync(certificate), servername: 'localhost' });
    await once(secure, 'secureConnect');
    secure.write('RCPT TO:<gate@gate.test>\r\n');
    expect(await heard(secure)).toMatch(/^503 /);
    secure.end('QUIT\r\n');
  });

  test('in plain there is neither AUTH nor MAIL', async () => {
    const { host, port } = hostPort(daemon.smtp[0]);
    const lines = ['EHLO x', 'AUTH PLAIN AGEAYg==', 'MAIL FROM:<>', 'QUIT', ''].join('\r\n');
    const ran = await run('bash', ['-c', `exec 3<>/dev/tcp/${host}/${port}; read -r <&3; cat >&3; cat <&3`], {
      input: lines,
    });
    expect(ran.stdout).toMatch(/^250-STARTTLS/m);
    expect(ran.stdout).not.toMatch(/^250[- ]AUTH/m);
    expect(ran.stdout.match(/^530 5\.7\.0/gm)).toHaveLength(2);
  });
});
