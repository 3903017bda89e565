import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Gate } from '@postern/gate';

/** What a line is like. */
export interface DelayOptions {
  readonly roundTripMs: number;
  /** Both ways the same. Absent: as fast as the machine. */
  readonly megabits?: number;
}

/** A port of 127.0.0.1 that leads to another one over a longer line. */
export interface DelayedPort extends AsyncDisposable {
  readonly port: number;
}

/** Puts a proxy, a process of its own, in front of a port. Connecting itself is not delayed, only what is said. */
export async function delayPort(port: number, o: DelayOptions): Promise<DelayedPort> {
  const child = spawn(
    process.execPath,
    [
      '--conditions=@postern/source',
      '--import',
      'tsx',
      resolve(import.meta.dirname, 'delay-proxy.ts'),
      String(port),
      String(o.roundTripMs),
      ...(o.megabits === undefined ? [] : [String(o.megabits)]),
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return {
    port: Number(line.toString()),
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      await once(child, 'close');
    },
  };
}

/** The gate's sshd over a longer line, with an ssh_config that names it `gate`. */
export async function startDelay(gate: Gate, o: DelayOptions): Promise<DelayedPort & { configFile: string }> {
  const delayed = await delayPort(gate.ssh.port, o);
  const dir = await mkdtemp(join(gate.dir, 'delayed-'));
  const moved = async (file: string, name: string): Promise<string> => {
    const path = join(dir, name);
    const text = (await readFile(file, 'utf8')).replaceAll(
      new RegExp(`\\b(Port |\\]:)${gate.ssh.port}\\b`, 'g'),
      `$1${delayed.port}`,
    );
    await writeFile(path, text.replaceAll(gate.client.knownHostsFile, join(dir, 'known_hosts')), { mode: 0o600 });
    return path;
  };
  await moved(gate.client.knownHostsFile, 'known_hosts');
  return { ...delayed, configFile: await moved(gate.client.configFile, 'config') };
}
