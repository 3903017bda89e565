/** `postern pipe`, and what `postern-ssh` shares with it: this process joined to a channel. */
import { type Env, printableJson, systemEnv } from '@postern/core';
import { PosternError } from '../base/errors.ts';
import { type Surroundings, surroundings } from '../base/paths.ts';
import { findControlSocket } from '../config/locate.ts';
import { type RunPipeOptions, runPipe, type SignalSource, SSH_FAULT } from './bridge.ts';
import { borrow, lentChannel } from './client.ts';
import { endsPlainly, type PipeAsk, parsePipeArgs } from './request.ts';

const HELP = `Usage: postern pipe HOST [imap|smtp]
       postern pipe HOST -- ARGV...    each argument quoted
       postern pipe HOST WORDS...      joined by spaces, as ssh does

Joins standard input and output to HOST over the running daemon's link, or over a link of its own when no daemon runs.
Ends with the far command's exit status; 255 when there is none, 78 for a configuration that cannot be used.
`;

/** Runs `postern pipe` with the words behind it, and ends the process. */
export async function pipeCommand(words: readonly string[]): Promise<void> {
  const call = parsePipeArgs(words);
  if (call.type === 'help') {
    process.stdout.write(HELP);
    return leave(0);
  }
  const say = (message: string, fix?: string, error?: unknown): number => {
    const { code, status } = error instanceof PosternError ? error : { code: 'unavailable', status: SSH_FAULT };
    const text = call.json
      ? printableJson({ event: 'error', code, message, fix, status })
      : `postern: ${message}${fix === undefined ? '' : `\n  fix: ${fix}`}`;
    process.stderr.write(`${text}\n`);
    return status;
  };
  if (call.type === 'error') {
    const fault = new PosternError('usage', call.message, { fix: 'postern pipe --help' });
    return leave(say(fault.message, fault.fix, fault));
  }
  const { host, want, config } = call;
  const configFile = config === undefined ? {} : { configFile: config };
  leave(await pipeProcess({ ask: { host, want }, ...configFile, say }));
}

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
  const { openOwn } = await import('./standalone.ts');
  return (await openOwn(ask, { surroundings: s, configFile, ...o })).channel;
}

/** Ends this process once its output has left. Input that is still open does not keep it. */
export function leave(status: number): void {
  process.stdout.write('', () => process.stderr.write('', () => process.exit(status)));
}
