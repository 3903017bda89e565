import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cachedPrograms, command, ssh, Talk } from './gate.test-util.ts';
import {
  descendants,
  type Gate,
  GateError,
  readMaildir,
  run,
  type SeedMessage,
  seedMaildir,
  startGate,
} from './index.ts';

describe('a gate', () => {
  let gate: Gate;
  let messages: SeedMessage[];

  beforeAll(async () => {
    gate = await startGate({
      ...cachedPrograms(),
      smtp: { refuse: { refused: '5.1.1 nobody here by that name' }, defer: { 'later@gate.test': '4.2.1 come back' } },
    });
    messages = await seedMaildir(gate.maildir, { count: 30, account: gate.account });
  });
  afterAll(() => gate?.stop());

  test('greets PREAUTH over ssh and serves the seeded messages byte for byte', async () => {
    using imap = ssh(gate, 'gate', 'imapd');
    expect(await imap.expect(/\r\n/)).toMatch(/^\* PREAUTH \[CAPABILITY IMAP4rev1 .*COMPRESS=DEFLATE/);
    imap.send('a EXAMINE INBOX');
    expect(await imap.expect(/^a OK.*\r\n/m)).toContain('* 30 EXISTS');
    for (const [index, message] of messages.entries()) {
      imap.send(`b FETCH ${index + 1} BODY.PEEK[]`);
      const answer = await imap.expect(/^b OK.*\r\n/m);
      expect(answer).toContain(`{${message.bytes.length}}\r\n${message.bytes.toString('latin1')})`);
    }
    imap.send('c LOGOUT');
    expect(await imap.exit).toBe(0);
  });

  test('takes mail through netcat over ssh, and an idling imapd tells of it', async () => {
    using imap = ssh(gate, 'gate', 'imapd');
    await imap.expect(/PREAUTH.*\r\n/);
    imap.send('a SELECT INBOX');
    const before = Number(/\* (\d+) EXISTS/.exec(await imap.expect(/^a OK.*\r\n/m))?.[1]);
    imap.send('b IDLE');
    await imap.expect(/^\+ .*\r\n/m);

    using smtp = ssh(gate, 'gate', 'netcat', 'localhost', 'smtp');
    await smtp.expect(/^220 gate\.test .*\r\n/);
    const offers = await command(smtp, 'EHLO client.test');
    expect(offers).toContain('CHUNKING');
    expect(offers).toContain('PIPELINING');
    await command(smtp, 'MAIL FROM:<ada@brook.test>');
    expect(await command(smtp, 'RCPT TO:<refused@gate.test>')).toBe('550 5.1.1 nobody here by that name\r\n');
    expect(await command(smtp, 'RCPT TO:<later@gate.test>')).toBe('451 4.2.1 come back\r\n');
    expect(await command(smtp, 'RCPT TO:<someone@elsewhere.test>')).toMatch(/^550 5\.7\.1/);
    expect(await command(smtp, 'RCPT TO:<gate@gate.test>')).toMatch(/^250/);
    expect(await command(smtp, 'DATA')).toMatch(/^354/);
    expect(await command(smtp, 'Subject: through the gate\r\n\r\nIt arrived.\r\n.')).toMatch(/^250/);

    await imap.expect(new RegExp(`^\\* ${before + 1} EXISTS\r\n`, 'm'));
    imap.send('DONE');
    await imap.expect(/^b OK.*\r\n/m);
    imap.send(`c FETCH ${before + 1} BODY[]`);
    expect(await imap.expect(/^c OK.*\r\n/m)).toContain('It arrived.\r\n');
    const delivered = await readMaildir(gate.maildir);
    expect(delivered.filter((bytes) => bytes.includes('Subject: through the gate'))).toHaveLength(1);
  });

  test('has an account of its own, with nothing of the caller in it', async () => {
    using shell = ssh(gate, 'gate', 'id -un; echo "$HOME"; command -v sendmail; echo end');
    const [user, home, sendmail] = (await shell.expect(/end\n/)).split('\n');
    expect(user).toBe('gate');
    expect(home).toBe(gate.home);
    expect(sendmail).toBe(`${gate.bin}/sendmail`);
    expect(gate.account.uid).not.toBe(0);
  });

  test('forwards to TCP ports and Unix sockets, back again, and serves sftp', async () => {
    using direct = ssh(gate, '-W', `127.0.0.1:${gate.smtp?.port}`, 'gate');
    await direct.expect(/^220 gate\.test/);
    const socket = `${gate.dir}/back.sock`;
    using back = ssh(gate, '-v', '-R', `${socket}:127.0.0.1:${gate.smtp?.port}`, 'gate', 'echo bound; cat');
    await back.expect(/bound\n/);
    using through = ssh(gate, 'gate', 'nc', '-U', socket);
    await through.expect(/^220 gate\.test/);
    using sftp = new Talk('sftp', ['-q', '-b', '-', '-F', gate.client.configFile, 'gate']);
    sftp.send('pwd');
    await sftp.expect(new RegExp(`${gate.home}`));
  });

  test('gives a fingerprint and a known_hosts file that agree with what ssh-keygen says', async () => {
    const shown = await run('ssh-keygen', ['-lf', gate.client.knownHostsFile]);
    expect(shown.stdout).toContain(gate.ssh.fingerprint);
    expect(await readFile(gate.client.knownHostsFile, 'utf8')).toContain(gate.ssh.hostKey);
  });

  test('reaches a further sshd by a jump through the first', async () => {
    const inner = await gate.addSshd({ name: 'inner', client: ['ProxyJump gate'] });
    using shell = ssh(gate, 'inner', 'echo "$SSH_CONNECTION"');
    expect(await shell.expect(/\n/)).toContain(` 127.0.0.1 ${inner.port}`);
    expect(gate.ssh.log().join('\n')).toContain('Starting session');
  });

  test('runs commands that a test adds', async () => {
    await gate.command('greet', 'echo "hello $1"');
    using shell = ssh(gate, 'gate', 'greet', 'reader');
    expect(await shell.expect(/\n/)).toBe('hello reader\n');
  });

  test('takes a message handed to its sendmail', async () => {
    using smtp = ssh(gate, 'gate', 'sendmail', '-bs');
    await smtp.expect(/^220 /);
    expect(await command(smtp, 'EHLO client.test')).toContain('CHUNKING');
  });
});

describe('a gate under a hard hand', () => {
  let gate: Gate;

  beforeAll(async () => {
    gate = await startGate({
      ...cachedPrograms(),
      imapd: false,
      shell: '/bin/bash',
      files: { '.bashrc': 'echo noise before everything' },
      smtp: { domains: ['*'], chunking: false, pipelining: false, sizeLimit: 2000 },
      sshd: { config: ['MaxSessions 1', 'Match User gate', 'PermitOpen 127.0.0.1:1'] },
    });
  });
  afterAll(() => gate?.stop());

  test('reads the far .bashrc and obeys given sshd_config lines', async () => {
    using shell = ssh(gate, 'gate', 'echo command');
    expect(await shell.expect(/command\n/)).toBe('noise before everything\ncommand\n');
    using direct = ssh(gate, '-W', `127.0.0.1:${gate.smtp?.port}`, 'gate');
    expect(await direct.exit).not.toBe(0);
  });

  test('offers only what the options say, and delivers any domain', async () => {
    using smtp = new Talk('ssh', ['-F', gate.client.configFile, 'gate', 'nc', 'localhost', 'smtp']);
    await smtp.expect(/^220 .*\r\n/m);
    const offers = await command(smtp, 'EHLO client.test');
    expect(offers).not.toMatch(/CHUNKING|PIPELINING/);
    expect(offers).toContain('SIZE 2000');
    expect(await command(smtp, 'MAIL FROM:<a@b.test> SIZE=3000')).toMatch(/^552/);
    await command(smtp, 'MAIL FROM:<a@b.test>');
    expect(await command(smtp, 'RCPT TO:<anyone@anywhere.test>')).toMatch(/^250/);
  });

  test('loses its connections when told, keeps its port over a restart, and freezes', async () => {
    using shell = ssh(gate, 'gate', 'echo ready; cat');
    await shell.expect(/ready\n/);
    await gate.ssh.dropConnections();
    expect(await shell.exit).toBe(255);

    const { port } = gate.ssh;
    await gate.ssh.stop();
    using refused = ssh(gate, 'gate', 'true');
    expect(await refused.exit).toBe(255);
    await gate.ssh.start();
    expect(gate.ssh.port).toBe(port);

    using frozen = ssh(gate, 'gate', 'echo up; cat');
    await frozen.expect(/up\n/);
    await gate.ssh.pause();
    const [listener] = await gate.ssh.pids();
    expect(await readFile(`/proc/${listener}/stat`, 'utf8')).toMatch(/\) T /);
    frozen.send('thawed');
    await gate.ssh.resume();
    await frozen.expect(/thawed/);
  });

  test('restarts its SMTP server on the same port', async () => {
    const port = gate.smtp?.port;
    await gate.smtp?.stop();
    using refused = ssh(gate, 'gate', 'nc localhost smtp; echo "nc $?"');
    await refused.expect(/nc 1\n/);
    await gate.smtp?.start();
    expect(gate.smtp?.port).toBe(port);
    using again = ssh(gate, 'gate', 'nc', 'localhost', 'smtp');
    await again.expect(/^220 /m);
  });
});

test('a gate comes up under the strictest umask', async () => {
  const umask = process.umask(0o077);
  try {
    await using gate = await startGate({ ...cachedPrograms(), files: { '.config/note': 'kept' } });
    using shell = ssh(gate, 'gate', 'cat .config/note; echo; netcat localhost smtp');
    await shell.expect(/^kept\n220 /);
    using imap = ssh(gate, 'gate', 'imapd');
    await imap.expect(/PREAUTH/);
  } finally {
    process.umask(umask);
  }
});

describe('the end of a gate', () => {
  test('leaves no process and no file, not even an orphan that ignores hangups', async () => {
    const gate = await startGate({ ...cachedPrograms(), imapd: false });
    using shell = ssh(gate, 'gate', 'setsid nohup sleep 86400 >/dev/null 2>&1 & echo "$!"; cat');
    const orphan = Number(await shell.expect(/\d+\n/));
    await gate.ssh.dropConnections();
    await shell.exit;
    expect(existsSync(`/proc/${orphan}/exe`)).toBe(true);
    const pids = [...(await gate.ssh.pids()), ...((await gate.smtp?.pids()) ?? [])];
    await Promise.all([gate.stop(), gate.stop()]);
    const mine = await descendants(process.pid);
    expect(mine.filter((entry) => pids.includes(entry.pid))).toEqual([]);
    // A zombie that nobody has reaped yet has no environment left.
    expect(await readFile(`/proc/${orphan}/environ`, 'utf8').catch(() => '')).toBe('');
    expect(existsSync(gate.dir)).toBe(false);
    await expect(gate.addSshd({ name: 'late' })).rejects.toMatchObject({ code: 'stopped' });
  });

  test.skipIf(process.platform !== 'linux')('comes also when its starter is killed', async () => {
    const program = fileURLToPath(new URL('./kept.test-util.ts', import.meta.url));
    const { cacheDir } = cachedPrograms();
    const args = ['--conditions=@postern/source', '--import', 'tsx', program, cacheDir];
    using starter = new Talk(process.execPath, args);
    const { dir, listeners } = JSON.parse(await starter.expect(/\}\n/));
    expect(await running(listeners)).toHaveLength(2);
    starter.child.kill('SIGKILL');
    while ((await running(listeners)).length > 0) await setImmediate();
    await rm(dir, { recursive: true });
  });

  test('comes at once, with the log, when a server does not start', async () => {
    const lines: string[] = [];
    let dir = '';
    const start = startGate({
      ...cachedPrograms(),
      imapd: false,
      sshd: { config: ['NoSuchKeyword yes'] },
      onEvent: (event) => {
        if (event.type === 'log') lines.push(event.line);
        dir ||= /\/\S*\/pg-\w+/.exec(lines.join(' '))?.[0] ?? '';
      },
    });
    const error = await start.then(
      () => undefined,
      (cause: unknown) => cause,
    );
    expect(error).toBeInstanceOf(GateError);
    expect(error).toMatchObject({ code: 'start_failed' });
    expect(String(error)).toContain('NoSuchKeyword');
    expect(dir).not.toBe('');
    expect(existsSync(dir)).toBe(false);
  });
});

test.each(['sshd', 'smtp'])('a port given to %s that another program has is named in the error', async (server) => {
  await using taken = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port } = taken.address() as AddressInfo;
  const start = startGate({
    ...cachedPrograms(),
    imapd: false,
    smtp: server === 'smtp' ? { port } : false,
    sshd: server === 'sshd' ? { port } : {},
  });
  await expect(start).rejects.toMatchObject({ code: 'start_failed', message: `port ${port} is in use` });
});

/** Those of the processes that exist and are not zombies. */
async function running(pids: readonly number[]): Promise<number[]> {
  const states = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ') Z ')));
  return pids.filter((_, index) => !/\) [ZX] /.test(states[index] ?? ''));
}
