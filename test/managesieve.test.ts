import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { freePort, type Gate } from '@postern/gate';
import { type LoginServer, startDovecot, startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makePlace, PLAIN, type Up, up } from './support/postern.ts';

/** ManageSieve (RFC 5804) of Dovecot's Pigeonhole through a `[[forward]]`: by the far sshd, and by netcat where forwarding is forbidden. */
let gate: Gate;
let dovecot: LoginServer;
let daemon: Up;
const ports = { tcp: 0, command: 0 };

beforeAll(async () => {
  gate = await startRig({ smtp: false });
  const sieve = await freePort();
  dovecot = await startDovecot(gate, { sieve });
  [ports.tcp, ports.command] = [await freePort(), await freePort()];
  const forwards = [
    `[[forward]]\nlisten = "127.0.0.1:${ports.tcp}"\nhost = "gate"\nto = "tcp:127.0.0.1:${sieve}"`,
    `[[forward]]\nlisten = "127.0.0.1:${ports.command}"\nhost = "gate"\nto = "netcat 127.0.0.1 ${sieve}"`,
  ];
  daemon = await up(await makePlace(gate, `${PLAIN}\n${forwards.join('\n')}\n`, 'sieve'));
});
afterAll(async () => {
  await daemon?.stop();
  await dovecot?.stop();
  await gate?.stop();
});

/** Says each command after the response to the one before; gives all that was read. */
function talk(port: number, commands: readonly string[]): Promise<string> {
  const todo = [...commands, 'LOGOUT'];
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    let text = '';
    let at = 0;
    socket.once('error', reject);
    socket.once('close', () => resolve(text));
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('utf8');
      for (
        let done = /^(OK|NO|BYE)\b.*\r\n/m.exec(text.slice(at));
        done !== null;
        done = /^(OK|NO|BYE)\b.*\r\n/m.exec(text.slice(at))
      ) {
        at += done.index + done[0].length;
        const next = todo.shift();
        // Some netcats stay after the server's close until their input ends, too.
        if (next === undefined) socket.end();
        else socket.write(`${next}\r\n`);
      }
    });
  });
}

test.each(['tcp', 'command'] as const)('a script is put, listed and made active, by %s', async (way) => {
  const script = `require "fileinto";\r\n# by ${way}\r\nkeep;\r\n`;
  const auth = Buffer.from(`\0reader\0${dovecot.password}`).toString('base64');
  const text = await talk(ports[way], [
    `AUTHENTICATE "PLAIN" "${auth}"`,
    `PUTSCRIPT "${way}" {${script.length}+}\r\n${script}`,
    'PUTSCRIPT "wrong" {9+}\r\nnonsense;',
    `SETACTIVE "${way}"`,
    'LISTSCRIPTS',
  ]);
  expect(text, dovecot.log().slice(-15).join('\n')).toContain('Pigeonhole"');
  expect(text, dovecot.log().slice(-15).join('\n')).not.toMatch(/^BYE "Internal/m);
  expect(text).toMatch(/^NO /m);
  expect(text).toContain(`"${way}" ACTIVE`);
  expect(await readFile(join(gate.account.home, '.dovecot.sieve'), 'utf8')).toContain(`# by ${way}`);
});
