import { type ChildProcess, spawn } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { Gate } from '@postern/gate';
import { startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hostPort, makePlace, type Place, postern, type Up, up } from './support/postern.ts';

/** Who comes in, asked over real sockets by programs of several users. */
let gate: Gate;
let place: Place;
let daemon: Up;
let password: string;
const CONFIG = `
[[imap]]
listen = ["127.0.0.1:0", "unix:imap.sock"]
host = "gate"
[smtp]
listen = ["127.0.0.1:0", "unix:smtp.sock"]
[[route]]
match = ["*"]
host = "gate"
`;
/** As root another user can be played; `nobody` on Debian. */
const root = process.getuid?.() === 0;
const OTHER_UID = 65534;

beforeAll(async () => {
  gate = await startRig();
  place = await makePlace(gate, CONFIG, 'access');
  daemon = await up(place);
  password = (await postern(place, ['password'])).stdout.trim();
});
afterAll(async () => {
  await daemon?.stop();
  await gate?.stop();
});

/**
 * A program that connects, then writes each line after `expect` was seen, and prints all it reads. `uid`: as that user. Resolves with
 * what it read when the server ends the connection.
 */
function talk(
  address: string | undefined,
  script: readonly [expect: string, send: string][],
  o: { uid?: number } = {},
): Promise<string> {
  const { host, port } = hostPort(address);
  const program = `
    const socket = require('net').connect(${port}, ${JSON.stringify(host)});
    const script = ${JSON.stringify(script)};
    let seen = '';
    const step = () => {
      const at = script.length > 0 ? seen.indexOf(script[0][0]) : -1;
      if (at < 0) return;
      seen = seen.slice(at + script[0][0].length);
      socket.write(script.shift()[1]);
      step();
    };
    socket.on('data', (chunk) => { process.stdout.write(chunk); seen += chunk; step(); });
    socket.on('error', () => {});
    step();`;
  const ids = o.uid === undefined ? {} : { uid: o.uid, gid: o.uid };
  const child: ChildProcess = spawn(process.execPath, ['-e', program], {
    cwd: '/',
    stdio: ['ignore', 'pipe', 'inherit'],
    ...ids,
  });
  let text = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
  });
  return new Promise((resolve) => child.once('close', () => resolve(text)));
}

describe('the same user', () => {
  test('logs in to IMAP with any name and password', async () =>
    expect(
      await talk(daemon.imap[0], [
        ['* OK', 'a LOGIN x y\r\n'],
        ['a OK', 'b LOGOUT\r\n'],
      ]),
    ).toMatch(/^a OK \[CAPABILITY/m));

  test('sends without a password', async () =>
    expect(
      await talk(daemon.smtp[0], [
        ['220 ', 'EHLO x\r\n'],
        ['250 ', 'MAIL FROM:<>\r\n'],
        ['\r\n250 ', 'QUIT\r\n'],
      ]),
    ).toContain('250 2.1.0'));
});

describe.runIf(root)("another user's program", () => {
  const uid = OTHER_UID;
  test('needs the local password for IMAP', async () => {
    expect(
      await talk(
        daemon.imap[0],
        [
          ['* OK', 'a LOGIN x y\r\n'],
          ['a NO', 'b LOGOUT\r\n'],
        ],
        { uid },
      ),
    ).toContain('a NO');
    const right = await talk(
      daemon.imap[0],
      [
        ['* OK', `a LOGIN x ${password}\r\n`],
        ['a OK', 'b LOGOUT\r\n'],
      ],
      { uid },
    );
    expect(right).toMatch(/^a OK \[CAPABILITY/m);
  });

  test('needs it for SMTP: 530 before, 535 for a wrong one', async () => {
    const login = (secret: string): string => `AUTH PLAIN ${Buffer.from(`\0x\0${secret}`).toString('base64')}\r\n`;
    const text = await talk(
      daemon.smtp[0],
      [
        ['220 ', 'EHLO x\r\n'],
        ['250 ', 'MAIL FROM:<>\r\n'],
        ['530 ', login('wrong')],
        ['535 ', login(password)],
        ['235 ', 'MAIL FROM:<>\r\n'],
        ['250 2.1.0', 'QUIT\r\n'],
      ],
      { uid },
    );
    expect(text).toContain('250 2.1.0');
  });

  test('is closed before the banner where the password is not allowed', async () => {
    const strict = await makePlace(
      gate,
      `${CONFIG.replaceAll(/, "unix:\w+\.sock"/g, '')}[access]\nallow = ["same-user"]\n`,
      'strict',
    );
    await using other = await up(strict);
    expect(await talk(other.imap[0], [], { uid })).toBe('');
    expect(await talk(other.smtp[0], [], { uid })).toBe('');
  });
});

describe('a web page', () => {
  test.each(['imap', 'smtp'] as const)('is dropped at its first line on the %s port', async (service) => {
    const request =
      'POST / HTTP/1.1\r\nHost: localhost\r\n\r\na LOGIN x y\r\nb LIST "" *\r\nEHLO x\r\nMAIL FROM:<>\r\n';
    const text = await talk(daemon[service][0], [['', request]]);
    expect(text).not.toContain('a OK');
    expect(text).not.toContain('250 2.1.0');
  });
});

describe('a Unix socket', () => {
  const path = (name: string): string => join(place.env.XDG_RUNTIME_DIR ?? '', 'postern', name);
  const greeting = (name: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect(path(name));
      socket.once('data', (chunk) => {
        socket.destroy();
        resolve(chunk.toString('latin1'));
      });
      socket.once('error', reject);
    });
  test('of an endpoint gives the far PREAUTH greeting, and is ours alone', async () => {
    expect(await greeting('imap.sock')).toMatch(/^\* PREAUTH /);
    expect((await stat(path('imap.sock'))).mode & 0o777).toBe(0o600);
    expect((await stat(join(path('imap.sock'), '..'))).mode & 0o777).toBe(0o700);
  });
  test('of the relay greets as its port does', async () => expect(await greeting('smtp.sock')).toMatch(/^220 /));
});

test('a client with another environment finds the daemon through the state directory', async () => {
  const { XDG_RUNTIME_DIR: _, ...env } = place.env;
  const ran = await postern({ ...place, env }, ['status', '--json']);
  expect(ran, ran.stderr).toMatchObject({ code: 0 });
  expect(JSON.parse(ran.stdout).pid).toBe(daemon.child.pid);
});

test('no password is in the log', () => expect(daemon.log()).not.toContain(password));
