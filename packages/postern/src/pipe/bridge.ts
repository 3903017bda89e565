/** Joins a process's three streams to a channel, and ends as ssh would. */
import type { Readable, Writable } from 'node:stream';
import { type Channel, type Env, type Exit, LinkError, printable, responseText } from '@postern/core';
import { flushed, passStderr, readToEnd } from './stream.ts';

/** What ssh ends with when the fault is its own, the link's, or the far command had no exit status: what `say` returns for those. */
export const SSH_FAULT = 255;

/** How long a far command that was sent a signal may take to end before the channel is cut, milliseconds. */
export const SIGNAL_GRACE_MS = 2000;

/** Hears of signals of this process, by name without `SIG`. */
export type SignalSource = (listener: (name: string) => void) => Disposable;

/** What {@link runPipe} needs. */
export interface RunPipeOptions {
  /** Opens the channel; `signal` aborts when a signal ends this process first. */
  open(o: { signal: AbortSignal }): Promise<Channel>;
  /** Absent: the far side reads an empty input, as with `ssh -n`. */
  stdin: Readable | undefined;
  stdout: Writable;
  stderr: Writable;
  signals: SignalSource;
  env: Env;
  /** True when an end without exit status is how it should be: TCP and Unix targets. */
  plainEnd: boolean;
  /** After a loss, `* BYE` to an IMAP client, unless a line was cut: then it could be taken for message text. */
  farewell?: 'imap';
  /** One sentence to the person, and what to do about it, safe for a terminal; returns the exit status for `error`. */
  say(line: string, fix?: string, error?: unknown): number;
}

/** Signals that end a program: forwarded once, then the channel gets {@link SIGNAL_GRACE_MS}. The second one cuts it. */
const ENDING = ['INT', 'TERM', 'HUP', 'QUIT'];

/**
 * Joins this process's three streams to a channel until the far side ends, and returns the exit status ssh would: the far
 * command's, or what `say` returns for the one line it said. Input that is still open does not keep it. Never rejects.
 */
export async function runPipe(o: RunPipeOptions): Promise<number> {
  const stop = new AbortController();
  let channel: Channel | undefined;
  let grace: Disposable | undefined;
  const cut = (name: string): void => {
    const reason = new LinkError(`ended by signal ${name}`, { code: 'aborted', layer: 'channel' });
    stop.abort(reason);
    channel?.abort(reason);
  };
  const listening = o.signals((name) => {
    if (!ENDING.includes(name)) return channel?.signal(name);
    if (channel === undefined || o.plainEnd || grace !== undefined) return cut(name);
    channel.signal(name);
    grace = o.env.schedule(SIGNAL_GRACE_MS, () => cut(name));
  });
  try {
    channel = await o.open({ signal: stop.signal });
    return status(await bridge(channel, o), o);
  } catch (error) {
    if (o.farewell === 'imap' && error instanceof Error) sayBye(error, o.stdout);
    return failed(error, o);
  } finally {
    listening[Symbol.dispose]();
    grace?.[Symbol.dispose]();
  }
}

async function bridge(channel: Channel, o: RunPipeOptions): Promise<Exit> {
  const { stream } = channel;
  const { stdin, stdout, stderr } = o;
  const brokenPipe = (): void => channel.abort(new LinkError(BROKEN_PIPE, { code: 'aborted', layer: 'channel' }));
  stream.on('error', () => {});
  stdout.on('error', brokenPipe);
  // Whoever closed our stderr does without it.
  stderr.on('error', () => {});
  const listening = passStderr(channel, stderr);
  stream.pipe(stdout, { end: false });
  const last = lastBytes(stream);
  const inputFailed = (): void => void stream.end();
  stdin?.on('error', inputFailed);
  if (stdin === undefined) stream.end();
  else stdin.pipe(stream);

  const [exit] = await Promise.all([channel.exit, readToEnd(stream)]);

  stdin?.unpipe(stream);
  stdin?.pause();
  stdin?.off('error', inputFailed);
  stdin?.on('error', () => {});
  listening[Symbol.dispose]();
  if (exit.type === 'lost' && o.farewell === 'imap' && last() === CRLF) sayBye(exit.error, stdout);
  await Promise.all([flushed(stdout), flushed(stderr)]);
  return exit;
}

const CRLF = 0x0d0a;

/** Watches for the last two octets of a stream; before any, they count as a line end. */
function lastBytes(stream: Readable): () => number {
  let tail = CRLF;
  stream.on('data', (chunk: Buffer) => {
    for (const byte of chunk.subarray(-2)) tail = ((tail << 8) | byte) & 0xffff;
  });
  return () => tail;
}

/** RFC 5530 §3: the far side is out of reach for now. */
function sayBye(error: Error, stdout: Writable): void {
  if (error.message !== BROKEN_PIPE) stdout.write(`* BYE [UNAVAILABLE] ${responseText(error.message)}\r\n`);
}

/** Not said: a reader that has seen enough, as `head`, is no fault. */
const BROKEN_PIPE = 'nobody reads standard output any more';

function status(exit: Exit, o: RunPipeOptions): number {
  switch (exit.type) {
    case 'exit':
      return exit.code;
    case 'signal':
      return o.say(`the far command was ended by signal ${printable(exit.name)}`);
    case 'closed':
      if (o.plainEnd) return 0;
      return o.say('the far side closed the channel without an exit status');
    case 'lost':
      return failed(exit.error, o);
  }
}

function failed(error: unknown, o: RunPipeOptions): number {
  if (error instanceof LinkError && error.message === BROKEN_PIPE) return SSH_FAULT;
  const fix = (error as { fix?: unknown }).fix;
  return o.say(
    printable(error instanceof Error ? error.message : String(error)),
    typeof fix === 'string' ? printable(fix) : undefined,
    error,
  );
}
