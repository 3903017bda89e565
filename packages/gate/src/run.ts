/** A program is run to its end, and its output is kept to a bound. */
import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { LineLog } from './log.ts';

/** Largest output kept of a helper command, bytes. */
const MAX_OUTPUT = 16 * 1024 * 1024;

/** How a helper command ended. `code` is null when a signal ended it. */
export interface RunResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end, with no shell. Rejects only when it cannot be started or the signal aborts. */
export function run(
  command: string,
  args: readonly string[],
  {
    input = '',
    ...o
  }: {
    cwd?: string;
    env?: NodeJS.ProcessEnv;
    uid?: number;
    gid?: number;
    signal?: AbortSignal | undefined;
    /** Its standard input, empty by default. What it does not read is dropped. */
    input?: string;
  } = {},
): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const child = execFile(command, args, { ...o, maxBuffer: MAX_OUTPUT }, (error, stdout, stderr) => {
      if (error !== null && (typeof error.code !== 'number' || o.signal?.aborted)) {
        if (child.signalCode !== null && !o.signal?.aborted) return resolve({ code: null, stdout, stderr });
        return reject(o.signal?.aborted ? o.signal.reason : error);
      }
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });
}

/** A server of the gate: one process group, its output as lines. */
export interface Daemon {
  readonly pid: number;
  readonly log: LineLog;
  /** Resolves with a description of the end, such as `exit 255`. Never rejects. */
  readonly ended: Promise<string>;
  readonly running: boolean;
  /** Signals the whole process group. Harmless once it is gone. */
  kill(signal: NodeJS.Signals): void;
}

/** What {@link startDaemon} needs. `env` is the whole environment: nothing of ours is passed on. */
export interface DaemonOptions {
  name: string;
  command: string;
  args: readonly string[];
  env: Record<string, string>;
  cwd: string;
  uid?: number;
  gid?: number;
  onLine: (line: string) => void;
}

/** Starts a server in its own process group; stdout and stderr both go to its log. */
export function startDaemon(o: DaemonOptions): Daemon {
  const log = new LineLog(o.onLine);
  const [command, args] = diesWithUs(o);
  const child = spawn(command, args, {
    cwd: o.cwd,
    env: o.env,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    ...(o.uid === undefined ? {} : { uid: o.uid }),
    ...(o.gid === undefined ? {} : { gid: o.gid }),
  });
  let running = true;
  const ended = new Promise<string>((resolve) => {
    const end = (how: string): void => {
      running = false;
      resolve(how);
    };
    child.once('error', (error) => end(error.message));
    child.once('close', () => log.end());
    child.once('exit', (code, signal) => end(signal ?? `exit ${code}`));
  });
  child.stdout.on('data', (chunk: Buffer) => log.write(chunk));
  child.stderr.on('data', (chunk: Buffer) => log.write(chunk));
  return {
    pid: child.pid ?? -1,
    log,
    ended,
    get running() {
      return running;
    },
    kill(signal) {
      if (child.pid !== undefined) killGroup(child.pid, signal);
    },
  };
}

const SETPRIV = '/usr/bin/setpriv';

/** On Linux the kernel ends a server whose starter was killed before it could clean up (util-linux's `--pdeathsig`). */
function diesWithUs(o: DaemonOptions): [string, readonly string[]] {
  if (process.platform !== 'linux' || !existsSync(SETPRIV)) return [o.command, o.args];
  return [SETPRIV, ['--pdeathsig', 'KILL', o.command, ...o.args]];
}

/** Signals a process group that this program started. */
export function killGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
