import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Gate } from '@postern/gate';
import { fetchTool } from '@postern/testkit/rig';

const MAIN = resolve(import.meta.dirname, '../../packages/postern/src/main.ts');
/** How the command is run from sources, with no build. */
export const FROM_SOURCES: readonly string[] = ['--conditions=@postern/source', '--import', 'tsx', MAIN];

/** What a command did. */
export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Everything `up` and the other commands need to find each other and nothing of this machine's user. */
export interface Place {
  readonly dir: string;
  readonly config: string;
  readonly env: NodeJS.ProcessEnv;
}

/** A running `postern up`. */
export interface Up extends AsyncDisposable {
  readonly child: ChildProcess;
  readonly imap: readonly string[];
  readonly smtp: readonly string[];
  /** Resolves at the first line of its log that matches, past or to come; rejects when it ends first. */
  logged(pattern: RegExp): Promise<string>;
  log(): string;
  /** Resolves with its exit status. */
  readonly ended: Promise<number | null>;
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

/** A configuration directory inside the gate's own, so that it goes with it. `toml` is put behind the two paths. */
export async function makePlace(gate: Gate, toml: string, name = 'postern'): Promise<Place> {
  const dir = join(gate.dir, name);
  await mkdir(join(dir, 'run'), { recursive: true, mode: 0o700 });
  const config = join(dir, 'config.toml');
  await writeFile(
    config,
    `state_dir = ${JSON.stringify(join(dir, 'state'))}\nssh_config = ${JSON.stringify(gate.client.configFile)}\n${toml}`,
  );
  const { POSTERN_CONFIG: _config, SSH_AUTH_SOCK: _agent, ...env } = process.env;
  return {
    dir,
    config,
    env: {
      ...env,
      XDG_RUNTIME_DIR: join(dir, 'run'),
      XDG_STATE_HOME: join(dir, 'xdg-state'),
      XDG_CONFIG_HOME: join(dir, 'xdg'),
    },
  };
}

/** Listeners on free ports, everything routed through `gate`. */
export const PLAIN = `
[[imap]]
listen = ["127.0.0.1:0"]
host = "gate"
[smtp]
listen = ["127.0.0.1:0"]
[[route]]
match = ["*"]
host = "gate"
`;

/** Runs a postern command to its end. */
export function postern(place: Place, args: readonly string[], input = ''): Promise<Ran> {
  const child = spawn(process.execPath, [...FROM_SOURCES, '--config', place.config, ...args], {
    env: place.env,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  return finish(child, input);
}

/** Runs any program to its end. */
export function run(
  command: string,
  args: readonly string[],
  o: { env?: NodeJS.ProcessEnv; cwd?: string; input?: string | Buffer } = {},
): Promise<Ran> {
  return finish(
    spawn(command, args, { env: o.env ?? process.env, cwd: o.cwd, stdio: ['pipe', 'pipe', 'pipe'] }),
    o.input ?? '',
  );
}

/** Runs a program of the rig to its end: an installed one, or one fetched into the cache. */
export async function runTool(name: string, args: readonly string[], o: Parameters<typeof run>[2] = {}): Promise<Ran> {
  const tool = await fetchTool(name);
  return run(tool.command, [...tool.args, ...args], { ...o, env: { ...(o.env ?? process.env), ...tool.env } });
}

function finish(child: ChildProcess, input: string | Buffer): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout?.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => err.push(chunk));
    child.once('error', reject);
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
    child.once('close', (code) => {
      resolve({ code, stdout: Buffer.concat(out).toString('utf8'), stderr: Buffer.concat(err).toString('utf8') });
    });
  });
}

/** Starts `postern up` and waits for its ready line. Rejects with its log when it ends before. */
export async function up(
  place: Place,
  hosts: readonly string[] = ['gate'],
  o: { node?: readonly string[] } = {},
): Promise<Up> {
  const child = spawn(
    process.execPath,
    [...(o.node ?? []), ...FROM_SOURCES, 'up', ...hosts, '--config', place.config, '--json'],
    { env: place.env, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let log = '';
  const waiting = new Set<() => void>();
  child.stderr?.on('data', (chunk: Buffer) => {
    log += chunk.toString('utf8');
    for (const look of waiting) look();
  });
  const ended = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)));
  const ready = await new Promise<{ imap: string[]; smtp: string[] }>((resolve, reject) => {
    if (child.stdout === null) return reject(new Error('no stdout'));
    createInterface(child.stdout).on('line', (line) => {
      if (line.includes('"ready"')) resolve(JSON.parse(line));
    });
    void ended.then((code) => reject(new Error(`postern up ended with ${code}\n${log}`)));
  });
  const stop = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> => {
    child.kill(signal);
    return ended;
  };
  return {
    child,
    imap: ready.imap,
    smtp: ready.smtp,
    ended,
    stop,
    log: () => log,
    logged(pattern) {
      return new Promise((resolve, reject) => {
        const look = (): void => {
          const found = pattern.exec(log);
          if (found === null) return;
          waiting.delete(look);
          resolve(found[0]);
        };
        waiting.add(look);
        look();
        void ended.then(() => reject(new Error(`postern ended before ${pattern}\n${log}`)));
      });
    },
    [Symbol.asyncDispose]: async () => {
      await stop();
    },
  };
}

/** Host and port of `127.0.0.1:1143`. */
export function hostPort(address: string | undefined): { host: string; port: number } {
  const at = (address ?? '').lastIndexOf(':');
  return { host: (address ?? '').slice(0, at), port: Number((address ?? '').slice(at + 1)) };
}
