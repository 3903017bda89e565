import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '@postern/gate';
import { expect, test } from 'vitest';
import { activatedSockets } from './activation.ts';

test('sockets are found by name, in the order of their unit', () => {
  const find = activatedSockets({ LISTEN_PID: '7', LISTEN_FDS: '4', LISTEN_FDNAMES: 'imap:imap:imap-2:smtp' }, 7);
  expect([find('imap', 0), find('imap', 1), find('imap', 2), find('imap-2', 0), find('smtp', 0)]).toEqual([
    3,
    4,
    undefined,
    5,
    6,
  ]);
});

test.each([
  {},
  { LISTEN_PID: '8', LISTEN_FDS: '1', LISTEN_FDNAMES: 'imap' },
  { LISTEN_PID: '7', LISTEN_FDS: '0', LISTEN_FDNAMES: 'imap' },
  { LISTEN_PID: '7', LISTEN_FDS: 'x', LISTEN_FDNAMES: 'imap' },
  { LISTEN_PID: '7', LISTEN_FDS: '1' },
])('%j hands nothing over', (env) => {
  expect(activatedSockets(env, 7)('imap', 0)).toBeUndefined();
});

const TOOL = 'systemd-socket-activate';

test.skipIf(spawnSync(TOOL, ['--version']).status !== 0)(
  'postern up serves on sockets that systemd has bound',
  async () => {
    const home = mkdtempSync(join(tmpdir(), 'postern-activation-'));
    mkdirSync(join(home, 'run'), { mode: 0o700 });
    const [imap, smtp] = [await freePort(), await freePort()];
    const config = join(home, 'config.toml');
    writeFileSync(join(home, 'ssh_config'), 'Host gate\n  HostName 127.0.0.1\n  Port 1\n');
    const listen = `[[imap]]\nlisten = ["127.0.0.1:${imap}"]\nhost = "gate"\n[smtp]\nlisten = ["127.0.0.1:${smtp}"]\n`;
    writeFileSync(config, `ssh_config = "ssh_config"\n${listen}[[route]]\nmatch = ["*"]\nhost = "gate"\n`);
    const env = {
      PATH: process.env.PATH ?? '',
      HOME: home,
      XDG_STATE_HOME: join(home, 'state'),
      XDG_RUNTIME_DIR: join(home, 'run'),
    };
    const main = fileURLToPath(new URL('../main.ts', import.meta.url));
    const child = spawn(TOOL, [
      ...['-l', `127.0.0.1:${smtp}`, '-l', `127.0.0.1:${imap}`, '--fdname=smtp:imap'],
      ...Object.entries(env).map(([name, value]) => `--setenv=${name}=${value}`),
      ...[process.execPath, '--conditions=@postern/source', '--import', 'tsx', main, '--config', config, 'up', 'gate'],
    ]);
    try {
      child.stderr.resume();
      // It starts at the first connection, which waits in the queue of the bound socket meanwhile.
      await listening(child, smtp);
      expect(await greeting(smtp)).toMatch(/^220 .*Postern/);
      expect(await greeting(imap)).toMatch(/^\* OK \[CAPABILITY/);
    } finally {
      child.kill('SIGTERM');
      await once(child, 'close');
      rmSync(home, { recursive: true, force: true });
    }
  },
);

/** Resolves once the tool has said that it listens. */
function listening(child: ChildProcessWithoutNullStreams, port: number): Promise<void> {
  let said = '';
  return new Promise((resolve, reject) => {
    child.once('close', () => reject(new Error(said)));
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      if (said.includes(`127.0.0.1:${port}`) && said.split('Listening on').length > 2) resolve();
    });
  });
}

function greeting(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.once('error', reject);
    socket.once('data', (chunk: Buffer) => {
      socket.destroy();
      resolve(chunk.toString('latin1'));
    });
    socket.once('close', () => reject(new Error('closed without a greeting')));
  });
}
