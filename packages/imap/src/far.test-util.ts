import { type ChildProcess, spawn } from 'node:child_process';
import type { Channel, Link, LinkState, Target } from '@postern/core';
import { type ChannelPair, type MemoryLink, memoryLink } from '@postern/testkit';

/** A link in memory whose `open` waits while it is down, as a real one does. */
export function waitingLink(serve: (target: Target, pair: ChannelPair) => void | Promise<void>): MemoryLink {
  const inner = memoryLink(serve);
  const up = (signal: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => {
      const stop = (): void => {
        watch[Symbol.dispose]();
        signal.removeEventListener('abort', onAbort);
      };
      const onAbort = (): void => {
        stop();
        reject(signal.reason);
      };
      const onState = (state: LinkState): void => {
        if (state.type !== 'up') return;
        stop();
        resolve();
      };
      const watch = inner.watch(onState);
      signal.addEventListener('abort', onAbort, { once: true });
      onState(inner.state);
    });
  const open: Link['open'] = async (target, o): Promise<Channel> => {
    const { state } = inner;
    if (state.type === 'down' && state.error.permanent) throw state.error;
    await up(o.signal);
    return inner.open(target, o);
  };
  return Object.defineProperty(Object.create(inner), 'open', { value: open });
}

/** How a far command is run: environment and account. */
export interface FarShell {
  readonly env: NodeJS.ProcessEnv;
  readonly cwd?: string;
  readonly uid?: number;
  readonly gid?: number;
}

/** Serves exec channels with real processes under `/bin/sh -c`, as sshd does. `children` are those still running. */
export function processes(shell: FarShell): {
  serve(target: Target, pair: ChannelPair): void;
  readonly children: Set<ChildProcess>;
} {
  const children = new Set<ChildProcess>();
  return {
    children,
    serve(target, pair) {
      if (target.type !== 'exec') throw new Error('only commands');
      const child = spawn('/bin/sh', ['-c', target.command], { stdio: 'pipe', ...shell });
      children.add(child);
      child.stdin.on('error', () => {});
      pair.far.pipe(child.stdin);
      child.stdout.pipe(pair.far, { end: false });
      child.stderr.on('data', (chunk: Buffer) => pair.stderr(chunk));
      child.once('close', (code, signal) => {
        children.delete(child);
        pair.exit(signal === null ? { type: 'exit', code: code ?? 0 } : { type: 'signal', name: signal.slice(3) });
      });
      void pair.channel.exit.then(() => child.kill());
    },
  };
}
