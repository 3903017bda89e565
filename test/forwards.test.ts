import { once } from 'node:events';
import { createServer, connect as netConnect } from 'node:net';
import { freePort, type Gate, readMaildir } from '@postern/gate';
import { startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makePlace, PLAIN, type Place, postern, type Up, up } from './support/postern.ts';

/** `[[forward]]` and `[[reverse]]` through a running daemon and a real sshd. */
let gate: Gate;
let place: Place;
let daemon: Up;
let ports: { tcp: number; command: number; far: number };
const echo = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));

beforeAll(async () => {
  gate = await startRig({ smtp: { domains: ['home.example', 'other.example'] } });
  echo.listen(0, '127.0.0.1');
  await once(echo, 'listening');
  const { port } = echo.address() as { port: number };
  ports = { tcp: await freePort(), command: await freePort(), far: await freePort() };
  const tables = [
    `[[forward]]\nlisten = "127.0.0.1:${ports.tcp}"\nhost = "gate"\nto = "tcp:127.0.0.1:${port}"`,
    `[[forward]]\nlisten = "127.0.0.1:${ports.command}"\nhost = "gate"\nto = "netcat 127.0.0.1 ${port}"`,
    `[[reverse]]\nhost = "gate"\nlisten = "127.0.0.1:${ports.far}"\nto = "127.0.0.1:${gate.smtp?.port}"\ndomains = ["home.example"]`,
  ];
  place = await makePlace(gate, `${PLAIN}\n${tables.join('\n')}\n`);
  daemon = await up(place);
});

afterAll(async () => {
  await daemon?.stop();
  echo.close();
  await gate?.stop();
});

function exchange(port: number, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = netConnect({ port, host: '127.0.0.1' });
    let got = '';
    socket.once('error', reject);
    socket.on('data', (chunk: Buffer) => {
      got += chunk.toString('latin1');
      if (got.length === text.length) socket.destroy();
    });
    socket.once('close', () => resolve(got));
    socket.write(text);
  });
}

test('a forward leads to a far port, straight or by a command', async () => {
  expect(await exchange(ports.tcp, 'straight')).toBe('straight');
  expect(await exchange(ports.command, 'by netcat')).toBe('by netcat');
});

test('a reverse forward lets the far side deliver to these domains only', async () => {
  await daemon.logged(/the far side listens on 127\.0\.0\.1/);
  const socket = netConnect({ port: ports.far, host: '127.0.0.1' });
  const lines = [
    'EHLO far',
    'MAIL FROM:<a@far.example>',
    'RCPT TO:<x@other.example>',
    'RCPT TO:<me@home.example>',
    'DATA',
    'Subject: back home\r\n\r\nhi\r\n.',
    'QUIT',
  ];
  const codes: string[] = [];
  socket.on('data', (chunk: Buffer) => {
    for (const [, code = ''] of chunk.toString('latin1').matchAll(/^(\d{3}) /gm)) {
      codes.push(code);
      const line = lines.shift();
      if (line !== undefined) socket.write(`${line}\r\n`);
    }
  });
  await once(socket, 'close');
  expect(codes).toEqual(['220', '250', '250', '550', '250', '354', '250', '221']);
  await daemon.logged(/no mail for x@other\.example/);
  for (;;) {
    const messages = (await readMaildir(gate.maildir)).map((bytes) => bytes.toString('latin1'));
    if (messages.some((text) => text.includes('Subject: back home'))) break;
    await postern(place, ['status']);
  }
});

test('status tells of both, and of a far port that is refused', async () => {
  const status = JSON.parse((await postern(place, ['status', '--json'])).stdout);
  expect(status.forwards[0]).toMatchObject({ listen: `127.0.0.1:${ports.tcp}`, host: 'gate', sessions: 0 });
  expect(status.reverses).toMatchObject([{ host: 'gate', listen: `127.0.0.1:${ports.far}`, state: 'listening' }]);
  const { port } = echo.address() as { port: number };
  const taken = `[[reverse]]\nhost = "gate"\nlisten = "127.0.0.1:${port}"\nto = "127.0.0.1:${gate.smtp?.port}"\n`;
  const other = await makePlace(gate, `${PLAIN}${taken}`, 'taken');
  await using second = await up(other);
  await second.logged(/reverse: /);
  const shown = await postern(other, ['status']);
  expect(shown.stdout).toMatch(/^reverse gate .* refused: .*\n {4}fix: .*port taken/m);
});

test('an end gives the far port back', async () => {
  expect(await daemon.stop()).toBe(0);
  await expect(exchange(ports.far, 'x')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
});

test("a reverse forward onto one of Postern's own listeners is refused, the default ones too", async () => {
  const reverse = (to: string): string => `[[reverse]]\nhost = "gate"\nlisten = "2525"\nto = "${to}"\n`;
  const tries: [to: string, args: string[]][] = [
    [`localhost:${ports.tcp}`, []],
    [`127.0.0.1:${ports.command}`, ['--imap', `127.0.0.1:${ports.command}`]],
  ];
  for (const [to, args] of tries) {
    const forward = `[[forward]]\nlisten = "127.0.0.1:${ports.tcp}"\nhost = "gate"\nto = "cat"\n`;
    const own = await makePlace(gate, `${args.length === 0 ? forward : ''}${PLAIN}${reverse(to)}`, 'own');
    const ran = await postern(own, ['up', 'gate', ...args]);
    expect(ran, ran.stderr).toMatchObject({ code: 78, stdout: '' });
    expect(ran.stderr).toContain(`${to}" is one of Postern's own listeners`);
  }
});
