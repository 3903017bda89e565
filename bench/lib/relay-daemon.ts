import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const COMMAND = resolve(import.meta.dirname, '../../packages/postern/bin/postern.js');
const BUILT = resolve(import.meta.dirname, '../../packages/postern/dist/main.js');

/** A running `postern up` that relays, from the built packages. */
export interface RelayDaemon extends AsyncDisposable {
  readonly pid: number;
  readonly smtpPort: number;
  /** From its start to its ready line, ms. */
  readonly readyMs: number;
}

/** Its spool. */
export function spoolOf(dir: string): string {
  return join(dir, 'state', 'spool');
}

/** Starts it on the state in `dir`, with an ssh_config that names `gate`; node may be given options of its own. */
export async function startRelay(dir: string, sshConfig: string, node: readonly string[] = []): Promise<RelayDaemon> {
  if (!existsSync(BUILT)) throw new Error('the built packages are measured: npm run build');
  await mkdir(join(dir, 'run'), { recursive: true, mode: 0o700 });
  const config = join(dir, 'config.toml');
  await writeFile(
    config,
    `state_dir = ${JSON.stringify(join(dir, 'state'))}\nssh_config = ${JSON.stringify(sshConfig)}\n` +
      '[host.gate]\nsmtp = "netcat localhost smtp"\n[smtp]\nlisten = ["127.0.0.1:0"]\n[[route]]\nmatch = ["*"]\nhost = "gate"\n',
  );
  const { SSH_AUTH_SOCK: _agent, POSTERN_CONFIG: _config, ...env } = process.env;
  const start = performance.now();
  const child = spawn(process.execPath, [...node, COMMAND, 'up', '--config', config, '--json'], {
    env: { ...env, XDG_RUNTIME_DIR: join(dir, 'run'), XDG_STATE_HOME: dir, XDG_CONFIG_HOME: dir },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  child.stderr.on('data', (chunk: Buffer) => {
    log = (log + chunk.toString()).slice(-4096);
  });
  const ended = once(child, 'close');
  const ready = once(createInterface(child.stdout), 'line') as Promise<[string]>;
  const first = await Promise.race([ready, ended.then(() => undefined)]);
  if (first === undefined) throw new Error(`postern up ended:\n${log}`);
  const readyMs = performance.now() - start;
  const { smtp } = JSON.parse(first[0]) as { smtp: string[] };
  return {
    pid: child.pid ?? 0,
    smtpPort: Number(smtp[0]?.split(':').at(-1)),
    readyMs,
    async [Symbol.asyncDispose]() {
      child.kill();
      await ended;
    },
  };
}
