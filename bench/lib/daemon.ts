import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Gate } from '@postern/gate';

const COMMAND = resolve(import.meta.dirname, '../../packages/postern/bin/postern.js');
const BUILT = resolve(import.meta.dirname, '../../packages/postern/dist/main.js');

/** A running `postern up gate`, from the built packages. */
export interface BenchDaemon extends AsyncDisposable {
  readonly pid: number;
  readonly imapPort: number;
  /** Resolves when a spare session waits for a login. */
  spare(): Promise<void>;
}

/** Starts it with an ssh_config that names `gate`. */
export async function startPostern(gate: Gate, sshConfig: string): Promise<BenchDaemon> {
  if (!existsSync(BUILT)) throw new Error('the built packages are measured: npm run build');
  const dir = await mkdtemp(join(gate.dir, 'postern-'));
  await mkdir(join(dir, 'run'), { mode: 0o700 });
  const config = join(dir, 'config.toml');
  await writeFile(
    config,
    `state_dir = ${JSON.stringify(join(dir, 'state'))}\nssh_config = ${JSON.stringify(sshConfig)}\n` +
      '[[imap]]\nlisten = ["127.0.0.1:0"]\nhost = "gate"\n',
  );

  const { SSH_AUTH_SOCK: _agent, ...env } = process.env;
  const child = spawn(process.execPath, [COMMAND, 'up', '--config', config, '--json'], {
    // The log of a bug hunter tells when a spare is there.
    env: { ...env, XDG_RUNTIME_DIR: join(dir, 'run'), XDG_STATE_HOME: dir, XDG_CONFIG_HOME: dir, POSTERN_DEBUG: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let spares = 0;
  let came: () => void = () => {};
  createInterface(child.stderr).on('line', (line) => {
    const what = /spare session (\w+)/.exec(line)?.[1];
    if (what === 'ready') spares++;
    else if (what === 'taken' || what === 'lost' || what === 'retired') spares--;
    came();
  });
  const [ready] = (await once(createInterface(child.stdout), 'line')) as [string];
  const { imap } = JSON.parse(ready) as { imap: string[] };
  return {
    pid: child.pid ?? 0,
    imapPort: Number(imap[0]?.split(':').at(-1)),
    async spare() {
      while (spares < 1) {
        await new Promise<void>((resolve) => {
          came = resolve;
        });
      }
    },
    async [Symbol.asyncDispose]() {
      child.kill();
      await once(child, 'close');
    },
  };
}
