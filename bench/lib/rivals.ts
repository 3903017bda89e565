/** The ways people have today: `ssh`, a ControlMaster, `ssh -L`. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { promisify } from 'node:util';
import { freePort } from '@postern/gate';

const exec = promisify(execFile);

/** Both ends of something that runs, and its end. */
export interface Far {
  readonly input: Writable;
  readonly output: Readable;
  readonly done: Promise<unknown>;
  /** The local process it takes, when it takes one. */
  readonly pid?: number | undefined;
  /** Takes a chunk back that was just read. */
  readonly release?: ((chunk: Buffer) => void) | undefined;
  /** Ends it at once. */
  kill(): void;
}

/** `ssh ARGS gate COMMAND`. */
export function sshExec(args: readonly string[], command: string): Far {
  const child = spawn('ssh', [...args, 'gate', command], { stdio: ['pipe', 'pipe', 'ignore'] });
  child.stdin.on('error', () => {});
  return {
    input: child.stdin,
    output: child.stdout,
    done: once(child, 'close'),
    pid: child.pid,
    kill: () => void child.kill(),
  };
}

/** A TCP connection to 127.0.0.1, without Nagle's delay. */
export async function dialTcp(port: number): Promise<Far & { input: Socket }> {
  const socket = connect(port, '127.0.0.1').setNoDelay(true);
  await once(socket, 'connect');
  socket.on('error', () => {});
  return { input: socket, output: socket, done: once(socket, 'close'), kill: () => void socket.destroy() };
}

/** An `ssh` in the background. */
export interface Background extends AsyncDisposable {
  readonly pid: number;
}

function background(args: readonly string[]): Background {
  const child = spawn('ssh', args, { stdio: 'ignore' });
  return {
    pid: child.pid ?? 0,
    async [Symbol.asyncDispose]() {
      child.kill();
      await once(child, 'close');
    },
  };
}

/** Repeats until it succeeds. */
async function untilUp(attempt: () => Promise<unknown>): Promise<void> {
  for (;;) {
    const up = await attempt().then(
      () => true,
      () => false,
    );
    if (up) return;
  }
}

/** A ControlMaster; its clients are `ssh -F config -S socket`. */
export async function startMaster(config: string, socket: string): Promise<Background> {
  const master = background(['-F', config, '-M', '-N', '-S', socket, 'gate']);
  await untilUp(() => exec('ssh', ['-F', config, '-S', socket, '-O', 'check', 'gate']));
  return master;
}

/** `ssh -L` to a port of the far side. */
export async function startForward(config: string, port: number): Promise<Background & { port: number }> {
  const local = await freePort();
  const forward = background(['-F', config, '-N', '-L', `127.0.0.1:${local}:127.0.0.1:${port}`, 'gate']);
  await untilUp(async () => (await dialTcp(local)).kill());
  return { ...forward, port: local };
}
