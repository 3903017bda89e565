import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LinkError, type Target } from '@postern/core';
import { type ChannelPair, memoryLink } from '@postern/testkit';
import { conformance } from './conformance.test-util.ts';

/** The far side of a memory link: this machine. */
function serveHere(target: Target, pair: ChannelPair): Promise<void> {
  switch (target.type) {
    case 'exec':
    case 'subsystem':
      return runHere(target.type === 'exec' ? target.command : target.name, pair);
    case 'tcp':
    case 'unix':
      return connectHere(target, pair);
  }
}

async function runHere(command: string, pair: ChannelPair): Promise<void> {
  const child = spawn('/bin/sh', ['-c', command], { detached: true });
  const kill = (name: string): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, `SIG${name}` as NodeJS.Signals);
    } catch {
      // It has ended.
    }
  };
  pair.onSignal(kill);
  pair.far.pipe(child.stdin);
  child.stdin.on('error', () => {});
  child.stdout.pipe(pair.far, { end: false });
  child.stderr.on('data', (chunk: Buffer) => pair.stderr(chunk));
  pair.far.on('close', () => child.stdin.destroy());
  child.on('close', (code, signal) => {
    if (signal !== null) pair.exit({ type: 'signal', name: signal.replace(/^SIG/, '') });
    else pair.exit({ type: 'exit', code: code ?? 0 });
  });
  void pair.channel.exit.then((exit) => exit.type === 'lost' && kill('HUP'));
}

function connectHere(target: Target, pair: ChannelPair): Promise<void> {
  const socket =
    target.type === 'tcp'
      ? connect({ host: target.host, port: target.port, allowHalfOpen: true })
      : connect({ path: (target as { path: string }).path, allowHalfOpen: true });
  return new Promise((resolve, reject) => {
    socket.once('error', (cause) =>
      reject(new LinkError(cause.message, { code: 'channel-refused', layer: 'channel', cause })),
    );
    socket.once('connect', () => {
      socket.pipe(pair.far);
      pair.far.pipe(socket);
      socket.on('close', () => pair.exit({ type: 'closed' }));
      resolve();
    });
  });
}

conformance('memory', async () => {
  const link = memoryLink(serveHere);
  const dir = await mkdtemp(join(tmpdir(), 'pmem-'));
  return {
    link,
    dir,
    hasSftp: false,
    async cut() {
      link.setState({ type: 'down', error: new LinkError('cut', { code: 'lost', layer: 'tcp' }) });
      link.setState({ type: 'up' });
    },
    async end() {
      await link.close();
      await rm(dir, { recursive: true });
    },
  };
});
