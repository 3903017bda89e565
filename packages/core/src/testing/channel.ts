/**
 * A channel and a link in memory: half-close, backpressure and loss are those of a real one, and nothing leaves the
 * process.
 */
import { Duplex } from 'node:stream';
import { type Channel, type Exit, STDERR_TAIL_BYTES, type Target } from '../channel.ts';
import { deferred, raceAbort } from '../env.ts';
import type { Link, LinkState } from '../link.ts';
import { LinkError } from '../link-error.ts';

/** A channel in memory and the far end of its pipe. */
export interface ChannelPair {
  readonly channel: Channel;
  /** The far command's stdin (readable side) and stdout (writable side). */
  readonly far: Duplex;
  /** Ends the channel as the far command's exit would. */
  exit(exit: Exit): void;
  /** Ends it as a lost link would: the stream errors. */
  lose(error?: LinkError): void;
  stderr(chunk: Buffer): void;
  /** Hears the signals sent to the far command. */
  onSignal(listener: (name: string) => void): void;
}

/** Two ends of a pipe that keep half-close and backpressure. */
function duplexPair(highWaterMark: number): [Duplex, Duplex] {
  type Side = { duplex: Duplex; resume: ((error?: Error) => void) | undefined };
  const make = (self: Side, other: Side): Duplex =>
    new Duplex({
      highWaterMark,
      allowHalfOpen: true,
      read() {
        const resume = self.resume;
        self.resume = undefined;
        resume?.();
      },
      write(chunk, _encoding, done) {
        if (other.duplex.destroyed) return done(brokenPipe());
        if (other.duplex.push(chunk)) done();
        else other.resume = done;
      },
      final(done) {
        if (!other.duplex.destroyed) other.duplex.push(null);
        done();
      },
      destroy(error, done) {
        done(error);
        const resume = self.resume;
        self.resume = undefined;
        resume?.(brokenPipe());
      },
    });
  const a = { resume: undefined } as unknown as Side;
  const b = { resume: undefined } as unknown as Side;
  a.duplex = make(a, b);
  b.duplex = make(b, a);
  return [a.duplex, b.duplex];
}

function brokenPipe(): Error {
  return Object.assign(new Error('the far side has closed the channel'), { code: 'EPIPE' });
}

/** Makes a {@link ChannelPair}. `highWaterMark` is the pipe's buffer each way, bytes. */
export function channelPair(o: { highWaterMark?: number } = {}): ChannelPair {
  const [near, far] = duplexPair(o.highWaterMark ?? 65536);
  near.on('error', () => {});
  far.on('error', () => {});
  const exit = deferred<Exit>();
  const listeners = new Set<(chunk: Buffer) => void>();
  let tail = Buffer.alloc(0);
  let onSignal: (name: string) => void = () => {};
  const lose = (error: Error): void => {
    const lost =
      error instanceof LinkError
        ? error
        : new LinkError('the channel was closed from this side', { code: 'aborted', layer: 'channel', cause: error });
    exit.resolve({ type: 'lost', error: lost });
    near.destroy(error);
    far.destroy();
  };
  near.once('close', () => {
    if (!near.readableEnded) lose(new LinkError('the channel was closed', { code: 'aborted', layer: 'channel' }));
    else if (!far.destroyed) far.push(null);
  });
  return {
    channel: {
      stream: near,
      exit: exit.promise,
      stderrTail: () => tail,
      onStderr(listener) {
        listeners.add(listener);
        return { [Symbol.dispose]: () => void listeners.delete(listener) };
      },
      signal: (name) => onSignal(name),
      abort: lose,
    },
    far,
    exit(value) {
      exit.resolve(value);
      if (!far.writableEnded) far.end();
      // Nobody reads the far command's input any more: what is written from now on fails, once its output is read.
      if (near.readableEnded) far.destroy();
      else near.once('end', () => far.destroy());
    },
    lose: (error) => lose(error ?? new LinkError('the link was lost', { code: 'lost', layer: 'tcp' })),
    stderr(chunk) {
      tail = Buffer.concat([tail, chunk]).subarray(-STDERR_TAIL_BYTES);
      for (const listener of listeners) listener(chunk);
    },
    onSignal(listener) {
      onSignal = listener;
    },
  };
}

/** A link in memory: `serve` is the far side of each channel. */
export interface MemoryLink extends Link {
  setState(state: LinkState): void;
  readonly wakes: string[];
}

/** Makes a link whose channels are handed to `serve`; `open` rejects with what `serve` throws. */
export function memoryLink(
  serve: (target: Target, pair: ChannelPair) => void | Promise<void>,
  host = 'gate',
): MemoryLink {
  let state: LinkState = { type: 'up' };
  let closed = false;
  const listeners = new Set<(state: LinkState) => void>();
  const pairs = new Set<ChannelPair>();
  const wakes: string[] = [];
  return {
    host,
    wakes,
    get state() {
      return state;
    },
    async open(target, { signal }) {
      signal.throwIfAborted();
      if (closed) throw new LinkError(`the link to ${host} was closed`, { code: 'aborted', layer: 'channel' });
      if (state.type === 'down') throw state.error;
      const pair = channelPair();
      pairs.add(pair);
      void pair.channel.exit.then(() => pairs.delete(pair));
      await raceAbort(Promise.resolve(serve(target, pair)), signal);
      return pair.channel;
    },
    wake: (why) => void wakes.push(why),
    watch(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    setState(next) {
      state = next;
      if (next.type === 'down') for (const pair of pairs) pair.lose(next.error);
      for (const listener of listeners) listener(next);
    },
    async close() {
      closed = true;
      for (const pair of pairs) pair.lose();
    },
  };
}
