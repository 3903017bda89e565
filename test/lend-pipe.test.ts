import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { Gate } from '@postern/gate';
import { startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makePrograms, type Programs, start } from './support/lend.ts';
import { makePlace, PLAIN, type Place, postern, run, type Up, up } from './support/postern.ts';

/** `postern pipe` and `postern-ssh` against a real sshd: over the daemon's link, and with no daemon. */
let gate: Gate;
let place: Place;
let alone: Place;
let daemon: Up;
let lent: Programs;
let own: Programs;

beforeAll(async () => {
  gate = await startRig();
  place = await makePlace(gate, PLAIN);
  alone = await makePlace(gate, '', 'alone');
  lent = await makePrograms(place);
  own = await makePrograms(alone);
  daemon = await up(place);
});

afterAll(async () => {
  await daemon?.stop();
  await gate?.stop();
});

const sha = (bytes: Uint8Array | string): string => createHash('sha256').update(bytes).digest('hex');

/** Runs a far command through `postern-ssh` to its end. */
const ssh = (by: Programs, ...args: string[]) => run(by.posternSsh, args);

describe.each([
  ["over the daemon's link", () => lent],
  ['over a link of its own', () => own],
] as const)('%s', (name, by) => {
  test('-v tells which link it is', async () => {
    const { code, stderr } = await ssh(by(), '-v', 'gate', 'true');
    expect(code).toBe(0);
    expect(stderr).toContain(name);
  });

  test('status, output and errors are those of the far command', async () => {
    expect(await ssh(by(), 'gate', 'echo out; echo err >&2; exit 7')).toEqual({
      code: 7,
      stdout: 'out\n',
      stderr: 'err\n',
    });
  });

  test('pipe quotes behind -- and joins without', async () => {
    const quoted = await run(by().postern, ['pipe', 'gate', '--', 'printf', '%s|', '$HOME', "it's", '']);
    expect(quoted.stdout).toBe("$HOME|it's||");
    const joined = await run(by().postern, ['pipe', 'gate', 'printf', '%s', '"$HOME"']);
    expect(joined.stdout).toBe(gate.home);
  });

  test('50 MB go there and come back unchanged', async () => {
    const bytes = randomBytes(50_000_000);
    const { child, ended } = startRaw(by(), 'cat');
    const hash = createHash('sha256');
    child.stdout.on('data', (chunk: Buffer) => hash.update(chunk));
    child.stdout.resume();
    child.stdin.end(bytes);
    expect(await ended).toBe(0);
    expect(hash.digest('hex')).toBe(sha(bytes));
  });

  test('much on stdout and stderr comes whole when stdout is read only after stderr', async () => {
    const { child } = startRaw(by(), 'head -c 3000000 /dev/zero >&2; exec 2>&-; head -c 3000000 /dev/zero; exit 5');
    const size = async (stream: AsyncIterable<Buffer>): Promise<number> => {
      let sum = 0;
      for await (const chunk of stream) sum += chunk.length;
      return sum;
    };
    const first = await new Promise<number>((resolve) => {
      let sum = 0;
      child.stderr?.on('data', (chunk: Buffer) => {
        sum += chunk.length;
        if (sum === 3_000_000) resolve(sum);
      });
    });
    const code = once(child, 'exit');
    expect([first, await size(child.stdout), (await code)[0]]).toEqual([3_000_000, 3_000_000, 5]);
  });

  test('the end of input reaches the far side and its output goes on', async () => {
    const pipe = start(by().posternSsh, ['gate', 'wc -c; echo done']);
    pipe.child.stdin.end('12345');
    expect(await pipe.ended).toBe(0);
    expect(pipe.stdout()).toBe('5\ndone\n');
  });

  test('it ends with the far command though its input stays open', async () => {
    const pipe = start(by().posternSsh, ['gate', 'exit 4']);
    expect(await pipe.ended).toBe(4);
  });

  test('-n gives the far side nothing to read', async () => {
    const pipe = start(by().posternSsh, ['-n', 'gate', 'wc -c']);
    expect(await pipe.ended).toBe(0);
    expect(pipe.stdout()).toBe('0\n');
  });

  test('a signal from within is 255, as with ssh', async () => {
    const asked = ['-F', gate.client.configFile, 'gate', 'kill -TERM $$'];
    expect((await run('ssh', asked)).code).toBe(255);
    const { code, stderr } = await ssh(by(), ...asked.slice(2));
    expect(code).toBe(255);
    expect(stderr).toBe('postern-ssh: the far command was ended by signal TERM\n');
  });

  test('a signal from here reaches the far command, whose status counts', async () => {
    const script = 'trap "echo caught; kill $!; exit 9" INT; sleep 1000 >/dev/null 2>&1 & echo ready; wait';
    const pipe = start(by().posternSsh, ['gate', script]);
    await pipe.shown(/ready/);
    pipe.child.kill('SIGINT');
    expect(await pipe.ended).toBe(9);
    expect(pipe.stdout()).toContain('caught');
  });

  test('two signals end it whatever the far command does', async () => {
    const pipe = start(by().posternSsh, [
      'gate',
      'trap "echo no" TERM; echo ready; while :; do read x || sleep 1; done',
    ]);
    await pipe.shown(/ready/);
    pipe.child.kill('SIGTERM');
    await pipe.shown(/no/);
    pipe.child.kill('SIGTERM');
    expect(await pipe.ended).toBe(255);
    expect(pipe.stderr()).toContain('ended by signal TERM');
  });

  test('a reader that leaves ends the far command', async () => {
    const ran = await run('sh', ['-c', `"$0" gate 'yes; echo gone >&2' | head -n 1`, by().posternSsh]);
    expect(ran).toMatchObject({ code: 0, stdout: 'y\n' });
  });

  test('-W reaches a port over there', async () => {
    const server = createServer((socket) => socket.end('hello\n'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    expect(await ssh(by(), '-W', `127.0.0.1:${port}`, 'gate')).toEqual({ code: 0, stdout: 'hello\n', stderr: '' });
    server.close();
    await once(server, 'close');
    const refused = await ssh(by(), '-W', `127.0.0.1:${port}`, 'gate');
    expect(refused.code).toBe(255);
    expect(refused.stderr).toMatch(/^postern-ssh: [^\n]*refused[^\n]*\n$/);
  });

  test('without a command, the far login shell reads its input', async () => {
    const ran = await run(by().posternSsh, ['gate'], { input: 'echo "shell $((6*7))"; exit 6\n' });
    expect(ran).toMatchObject({ code: 6, stdout: 'shell 42\n' });
  });

  test('pipe imap gives the far PREAUTH greeting and session', async () => {
    const ran = await run(by().postern, ['pipe', 'gate', 'imap'], { input: 'a SELECT INBOX\r\nb LOGOUT\r\n' });
    expect(ran.code, ran.stderr).toBe(0);
    expect(ran.stdout).toMatch(/^\* PREAUTH .*\r\na OK .*\r\nb OK /s);
  });

  test('pipe smtp gives the far SMTP greeting and session', async () => {
    const pipe = start(by().postern, ['pipe', 'gate', 'smtp']);
    await pipe.shown(/^220 /);
    pipe.child.stdin.write('QUIT\r\n');
    await pipe.shown(/\r\n221 /);
    // OpenBSD's nc waits for the end of its input even when the server has closed.
    pipe.child.stdin.end();
    expect(await pipe.ended).toBe(0);
  });

  test('what is not given is refused with a reason', async () => {
    const ran = await ssh(by(), '-L', '1:a:2', 'gate');
    expect(ran).toMatchObject({ code: 255, stderr: expect.stringContaining('[[forward]]') });
  });
});

/** As `start`, with nobody reading the outputs. */
function startRaw(by: Programs, script: string) {
  const { child, ended } = start(by.posternSsh, ['gate', script]);
  child.stdout.removeAllListeners('data');
  child.stdout.pause();
  return { child, ended };
}

describe('which link', () => {
  const over = async (...args: string[]): Promise<string> => {
    const { stderr } = await ssh(lent, '-v', ...args, 'true');
    return /over (.*) to/.exec(stderr)?.[1] ?? stderr;
  };
  const daemons = "the daemon's link";
  const itsOwn = 'a link of its own';

  test('what leads the same way takes the link of the daemon', async () => {
    const { port } = gate.ssh;
    const { user } = gate.account;
    expect(await over(`${user}@gate`)).toBe(daemons);
    expect(await over('-p', String(port), '-l', user, 'gate')).toBe(daemons);
    expect(await over('-F', gate.client.configFile, 'gate')).toBe(daemons);
    expect(await over('-i', gate.client.identityFile, 'gate')).toBe(daemons);
  });

  test('another user, port or setting takes one of its own', async () => {
    expect(await over('somebody@gate')).toContain(itsOwn);
    expect(await over('-p', '1', 'gate')).toContain(itsOwn);
    expect(await over('-o', 'HostKeyAlias=other', 'gate')).toContain(itsOwn);
    expect(await over('-i', '/nonexistent', 'gate')).toContain(itsOwn);
  });

  test('a host that does not answer is one line and 255', async () => {
    const ran = await ssh(lent, '-p', '1', 'gate', 'true');
    expect(ran.code).toBe(255);
    expect(ran.stderr).toMatch(/^postern-ssh: [^\n]+\n( {2}fix: [^\n]+\n)?$/);
    expect((await ssh(lent, '-q', '-p', '1', 'gate', 'true')).stderr).toBe('');
  });
});

test('a configuration that cannot be used is 78 from postern pipe, as from every command', async () => {
  const faulty = await makePlace(gate, 'colour = "red"\n', 'faulty');
  const ran = await postern(faulty, ['--json', 'pipe', 'gate', '--', 'true']);
  expect(JSON.parse(ran.stderr)).toMatchObject({ event: 'error', code: 'config', status: 78 });
  expect(ran.code).toBe(78);
  const absent = { ...place, config: join(place.dir, 'absent.toml') };
  expect(await postern(absent, ['pipe', 'gate', '--', 'true'])).toMatchObject({ code: 78, stdout: '' });
});

describe('a link that goes', () => {
  test('in the middle leaves 255 and a reason, and the next pipe has the link that came after', async () => {
    const cat = start(lent.posternSsh, ['gate', 'cat']);
    cat.child.stdin.write('here\n');
    await cat.shown(/here/);
    await gate.ssh.dropConnections();
    expect(await cat.ended).toBe(255);
    expect(cat.stderr()).toMatch(/^postern-ssh: [^\n]*gate[^\n]*\n( {2}fix: [^\n]+\n)?$/);
    const next = await ssh(lent, '-v', 'gate', 'echo on');
    expect(next).toMatchObject({ code: 0, stdout: 'on\n', stderr: expect.stringContaining("the daemon's link") });
  });

  test('is waited for while it is down, but no longer than ConnectTimeout', async () => {
    await gate.ssh.stop();
    const impatient = await ssh(lent, '-o', 'ConnectTimeout=1', 'gate', 'true');
    expect(impatient.code).toBe(255);
    expect(impatient.stderr).toMatch(/^postern-ssh: [^\n]*refuse/);
    const patient = ssh(lent, 'gate', 'echo up again');
    await gate.ssh.start();
    expect(await patient).toEqual({ code: 0, stdout: 'up again\n', stderr: '' });
  });
});

describe('a daemon that goes', () => {
  test('in the middle leaves 255, a reason, and a BYE to an IMAP client', async () => {
    const other = await makePlace(gate, PLAIN, 'other');
    await mkdir(join(other.dir, 'bin'), { recursive: true });
    const programs = await makePrograms(other);
    const dying = await up(other);
    const cat = start(programs.posternSsh, ['gate', 'cat']);
    cat.child.stdin.write('here\n');
    await cat.shown(/here/);
    const imap = start(programs.postern, ['pipe', 'gate', 'imap']);
    await imap.shown(/^\* PREAUTH .*\r\n/);
    await dying.stop('SIGKILL');
    expect(await cat.ended).toBe(255);
    expect(cat.stderr()).toBe('postern-ssh: the daemon went away\n');
    expect(await imap.ended).toBe(255);
    expect(imap.stdout()).toMatch(/\r\n\* BYE \[UNAVAILABLE\] the daemon went away\r\n$/);
    // Its socket is still there and nobody answers: the next one has a link of its own.
    const next = await ssh(programs, '-v', 'gate', 'echo on');
    expect(next).toMatchObject({ code: 0, stdout: 'on\n', stderr: expect.stringContaining('a link of its own') });
  });
});
