/** A far command's end: its exit is waited for a bounded time, and no more of its output is kept than its caller names. */
import type { Channel, Exit } from './channel.ts';
import { type Env, raceAbort, sleep } from './env.ts';
import type { Link } from './link.ts';
import { printable } from './quote.ts';

/** How long an ended command's exit status and last words are waited for, milliseconds. */
export const LAST_WORDS_MS = 1000;

/** What is known of a channel whose output has ended. */
export interface LastWords {
  /** Undefined where it did not come in time. */
  readonly exit: Exit | undefined;
  /** The tail of stderr, trimmed, not escaped. */
  readonly stderr: string;
}

/** Waits at most `waitMs` for the exit of a channel whose output has ended: it comes after the output, and says more. */
export async function lastWords(channel: Channel, env: Env, waitMs: number = LAST_WORDS_MS): Promise<LastWords> {
  const stop = new AbortController();
  const exit = await Promise.race([
    channel.exit,
    sleep(env, waitMs, stop.signal).then(
      () => undefined,
      () => undefined,
    ),
  ]);
  stop.abort();
  return { exit, stderr: channel.stderrTail().toString('utf8').trim() };
}

/** The last three lines of what was said, as one escaped line. */
export function lastLines(text: string): string {
  return printable(text.trim().split('\n').slice(-3).join(' / '), 300);
}

/** How {@link runFar}'s command ended, and what it printed. */
export interface FarRun {
  readonly exit: Exclude<Exit, { type: 'lost' }>;
  /** Its standard output, the first `maxOctets` of it. */
  readonly output: Buffer;
  /** It printed more than that. */
  readonly cut: boolean;
}

/** Runs a command over there without input. Rejects with `LinkError` when the link is lost, and with the signal's reason. */
export async function runFar(
  link: Link,
  command: string,
  o: { signal: AbortSignal; maxOctets: number },
): Promise<FarRun> {
  const channel = await link.open({ type: 'exec', command }, { signal: o.signal });
  const chunks: Buffer[] = [];
  let room = o.maxOctets;
  let cut = false;
  channel.stream.on('error', () => {});
  channel.stream.on('data', (chunk: Buffer) => {
    if (room > 0) chunks.push(chunk.subarray(0, room));
    cut ||= chunk.length > room;
    room = Math.max(0, room - chunk.length);
  });
  channel.stream.end();
  const exit = await raceAbort(channel.exit, o.signal).catch((error) => {
    channel.abort(error);
    throw error;
  });
  if (exit.type === 'lost') throw exit.error;
  return { exit, output: Buffer.concat(chunks), cut };
}
