import { type Env, systemEnv } from '@postern/core';
import { type Surroundings, surroundings } from '../paths.ts';
import { endsPlainly, type PipeAsk } from './ask.ts';
import { borrow } from './borrow.ts';
import { lentChannel } from './lent.ts';
import { findControlSocket } from './locate.ts';
import { type RunPipeOptions, runPipe, type SignalSource } from './run.ts';

/** What a pipe of this process is. */
export interface ProcessPipe {
  readonly ask: PipeAsk;
  /** `--config`. */
  readonly configFile?: string;
  /** `-n`. */
  readonly emptyInput?: boolean;
  /** Faults and their fixes. */
  readonly say: RunPipeOptions['say'];
  /** What is going on, for `-v`. */
  readonly tell?: (line: string) => void;
}

/** Signals that are handed on. */
const SIGNALS = ['INT', 'TERM', 'HUP', 'QUIT', 'USR1', 'USR2'] as const;

const processSignals: SignalSource = (listener) => {
  const handlers = SIGNALS.map((name) => ({ event: `SIG${name}` as const, run: () => listener(name) }));
  for (const { event, run } of handlers) process.on(event, run);
  return {
    [Symbol.dispose]() {
      for (const { event, run } of handlers) process.off(event, run);
    },
  };
};

/** Joins this process's streams to what is asked, and returns its exit status. Never rejects. */
export async function pipeProcess(o: ProcessPipe): Promise<number> {
  const s = surroundings();
  return runPipe({
    open: ({ signal }) => open(o, s, { env: systemEnv, signal }),
    stdin: o.emptyInput === true ? undefined : process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    signals: processSignals,
    env: systemEnv,
    plainEnd: endsPlainly(o.ask.want),
    ...(o.ask.want.type === 'imap' ? { farewell: 'imap' } : {}),
    say: o.say,
  });
}

/** Over the daemon's link where it has it, else over one of its own. */
async function open(
  { ask, configFile, tell }: ProcessPipe,
  s: Surroundings,
  o: { env: Env; signal: AbortSignal },
): ReturnType<RunPipeOptions['open']> {
  const borrowed = await borrow(await findControlSocket(s, configFile), ask, o);
  if (borrowed.type === 'lent') {
    tell?.(`over the daemon's link to ${ask.host}`);
    return lentChannel(borrowed.socket, { signal: o.signal, leftover: borrowed.leftover });
  }
  tell?.(`over a link of its own to ${ask.host}: ${borrowed.why}`);
  const { openOwn } = await import('./own.ts');
  return (await openOwn(ask, { surroundings: s, configFile, ...o })).channel;
}

/** Ends this process once its output has left. Input that is still open does not keep it. */
export function leave(status: number): void {
  process.stdout.write('', () => process.stderr.write('', () => process.exit(status)));
}
