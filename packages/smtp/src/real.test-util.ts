import { type ChildProcess, spawn } from 'node:child_process';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
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
export function processLink(gate: Gate, o: { ssh?: boolean; port?: number; forwards?: boolean } = {}): ProcessLink {
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
      return keep(await openTarget(gate, target, o));
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

async function openTarget(
  gate: Gate,
  target: Target,
  o: { ssh?: boolean; port?: number; forwards?: boolean },
): Promise<Channel> {
  if (target.type === 'exec') return processChannel(spawnFar(gate, target.command, o), o.ssh === true);
  if (target.type === 'subsystem') throw new Error('no subsystems here');
  if (o.forwards === false)
    throw new LinkError('forwarding is forbidden', { code: 'channel-refused', layer: 'channel' });
  const socket = target.type === 'tcp' ? connect(target.port, target.host) : connect(target.path);
  const refused = (cause: Error): LinkError =>
    new LinkError('nothing listens there', { code: 'channel-refused', layer: 'channel', cause });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve).once('error', (error) => reject(refused(error)));
  });
  return socketChannel(socket);
}

function spawnFar(gate: Gate, command: string, o: { ssh?: boolean; port?: number }): ChildProcess {
  if (o.ssh === true) {
    const known = `[127.0.0.1]:${gate.ssh.port}`;
    const alive = ['-o', 'ServerAliveInterval=1', '-o', 'ServerAliveCountMax=2'];
    const through = o.port === undefined ? [] : ['-p', String(o.port), '-o', `HostKeyAlias=${known}`, ...alive];
    return spawn('ssh', ['-T', '-F', gate.client.configFile, ...through, gate.ssh.name, command]);
  }
  const { account, context } = gate;
  const env = { ...context.baseEnv, ...account.env, HOME: account.home, USER: account.user };
  return spawn('/bin/sh', ['-c', command], { cwd: account.home, env, ...account.as });
}

function processChannel(child: ChildProcess, ssh: boolean): Channel {
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
  stdout.on('end', () => {
    // Over a lost link there is no clean end.
    if (!ssh) stream.push(null);
    else void exit.then((how) => (how.type === 'lost' ? stream.destroy(how.error) : stream.push(null)));
  });
  let aborted: Error | undefined;
  const exit = new Promise<Exit>((resolve) => {
    child.on('close', (code, name) => {
      // ssh ends with 255 when its connection does.
      if (ssh && code === 255) aborted ??= new LinkError('the link was lost', { code: 'lost', layer: 'tcp' });
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

/** A TCP hop to `port` that resets the connection when `budget` octets have passed towards it. */
export async function cuttingProxy(port: number, budget: number): Promise<{ port: number } & Disposable> {
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(port, '127.0.0.1');
    let left = budget;
    const cut = (): void => {
      near.resetAndDestroy();
      far.resetAndDestroy();
    };
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.setNoDelay(true).on('error', cut).on('close', cut);
    }
    near.on('data', (chunk: Buffer) => {
      far.write(chunk.subarray(0, left), () => left <= 0 && cut());
      left -= chunk.length;
    });
    far.on('data', (chunk: Buffer) => near.write(chunk));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.dispose]() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

function toLinkError(error: Error): LinkError {
  return error instanceof LinkError ? error : new LinkError(error.message, { code: 'aborted', layer: 'channel' });
}
