/** Commands run to their end, with what they said last when they fail. */
import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';

/** How a command ended; `tail` is the end of its output, both streams. */
export interface Ended {
  readonly code: number;
  readonly tail: string;
  readonly seconds: number;
}

const TAIL = 64 * 1024;

/** Runs a command without a shell; all it says goes to `log`. Rejects when it cannot be started. */
export function execute(
  command: readonly string[],
  o: {
    readonly log: string;
    readonly cwd?: string;
    readonly env?: NodeJS.ProcessEnv;
    readonly input?: NodeJS.ReadableStream;
  },
): Promise<Ended> {
  const [program = '', ...args] = command;
  const started = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: o.cwd, env: o.env ?? process.env, stdio: ['pipe', 'pipe', 'pipe'] });
    const log = createWriteStream(o.log, { flags: 'a' });
    let tail = '';
    const onData = (chunk: Buffer): void => {
      log.write(chunk);
      tail = (tail + chunk.toString()).slice(-TAIL);
    };
    child.stdout.on('data', onData);
    child.stderr.on('data', onData);
    child.stdin.on('error', () => {});
    if (o.input === undefined) child.stdin.end();
    else o.input.pipe(child.stdin);
    child.once('error', reject);
    child.once('close', (code) => {
      log.end();
      resolve({ code: code ?? 255, tail, seconds: (performance.now() - started) / 1000 });
    });
  });
}

/** The same for a step that must succeed. Throws with its last lines. */
export async function must(step: string, command: readonly string[], o: Parameters<typeof execute>[1]): Promise<Ended> {
  const ended = await execute(command, o);
  if (ended.code === 0) return ended;
  const words = ended.tail.trim().split('\n').slice(-5).join('\n  ');
  throw new Error(`${step}: ${command[0]} ended with ${ended.code}:\n  ${words}\n  (all of it: ${o.log})`);
}
