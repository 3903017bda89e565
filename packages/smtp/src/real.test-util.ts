import { type ChildProcess, spawn } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { type Channel, type Exit, type Link, LinkError, STDERR_TAIL_BYTES, type Target } from '@postern/core';
import type { Gate } from '@postern/gate';

/** A link whose channels are real commands and sockets. */
export interface ProcessLink extends Link {
  /** Ends every channel as a lost link would. */
  cut(): void;
}

/**
 * A link onto a gate without our own ssh: `exec` runs in the far account's environment, or with `ssh: true` through the system's ssh and
 * the gate's real sshd.
 */
export function processLink(gate: Gate, o: { ssh?: boolean } = {}): ProcessLink {
  const channels = new Set<Channel>();
  const lost = (): LinkError => new LinkError('the link was lost', { code: 'lost', layer: 'tcp' });
  const keep = (channel: Channel): Channel => {
    channels.add(channel);
    void channel.exit.then(() => channels.delete(channel));
    return channel;
  };
  return {
    host: 'gate',
    state: { type: 'up' },
    async open(target) {
      return keep(await openTarget(gate, target, o.ssh === true));
    },
    wake() {},
    watch: () => ({ [Symbol.dispose]() {} }),
    cut() {
      for (const channel of channels) channel.abort(lost());
    },
    async close() {
      for (const channel of channels) channel.abort(lost());
    },
  };
}

async function openTarget(gate: Gate, target: Target, ssh: boolean): Promise<Channel> {
  if (target.type === 'exec') return processChannel(spawnFar(gate, target.command, ssh));
  if (target.type === 'subsystem') throw new Error('no subsystems here');
  const socket = target.type === 'tcp' ? connect(target.port, target.host) : connect(target.path);
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  return socketChannel(socket);
}

function spawnFar(gate: Gate, command: string, ssh: boolean): ChildProcess {
  if (ssh) return spawn('ssh', ['-T', '-F', gate.client.configFile, gate.ssh.name, command]);
  const { account, context } = gate;
  const env = { ...context.baseEnv, ...account.env, HOME: account.home, USER: account.user };
  return spawn('/bin/sh', ['-c', command], { cwd: account.home, env, ...account.as });
}

function processChannel(child: ChildProcess): Channel {
  const { stdin, stdout, stderr } = child;
  if (stdin === null || stdout === null || stderr === null) throw new Error('no pipes');
  stdin.on('error', () => {});
  let tail = Buffer.alloc(0);
  stderr.on('data', (chunk: Buffer) => {
    tail = Buffer.concat([tail, chunk]).subarray(-STDERR_TAIL_BYTES);
  });
  const stream = new Duplex({
    read: () => void stdout.resume(),
    // As over ssh, what the far command does not read is dropped, and its output still comes.
    write: (chunk, _encoding, done) => void stdin.write(chunk, () => done()),
    final: (done) => void stdin.end(() => done()),
    destroy(error, done) {
      stdin.destroy();
      done(error);
    },
  });
  stdout.on('data', (chunk: Buffer) => void (stream.push(chunk) || stdout.pause()));
  stdout.on('end', () => stream.push(null));
  let aborted: Error | undefined;
  const exit = new Promise<Exit>((resolve) => {
    child.on('close', (code, name) => {
      if (aborted !== undefined) resolve({ type: 'lost', error: toLinkError(aborted) });
      else resolve(code === null ? { type: 'signal', name: (name ?? '').slice(3) } : { type: 'exit', code });
    });
  });
  return {
    stream,
    exit,
    stderrTail: () => tail,
    onStderr: () => ({ [Symbol.dispose]() {} }),
    signal: (name) => void child.kill(`SIG${name}` as NodeJS.Signals),
    abort(reason) {
      aborted ??= reason;
      stream.destroy(reason);
      child.kill('SIGHUP');
    },
  };
}

function socketChannel(socket: Socket): Channel {
  let aborted: Error | undefined;
  socket.on('error', () => {});
  const exit = new Promise<Exit>((resolve) => {
    socket.on('close', () =>
      resolve(aborted === undefined ? { type: 'closed' } : { type: 'lost', error: toLinkError(aborted) }),
    );
  });
  return {
    stream: socket,
    exit,
    stderrTail: () => Buffer.alloc(0),
    onStderr: () => ({ [Symbol.dispose]() {} }),
    signal() {},
    abort(reason) {
      aborted ??= reason;
      socket.destroy(reason);
    },
  };
}

function toLinkError(error: Error): LinkError {
  return error instanceof LinkError ? error : new LinkError(error.message, { code: 'aborted', layer: 'channel' });
}
