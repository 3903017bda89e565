import { Duplex } from 'node:stream';
import { type Channel, deferred, type Exit, LinkError, STDERR_TAIL_BYTES } from '@postern/core';
import { errorOf, fromPipeExit } from './fault.ts';
import { type Frame, FrameError, type StreamName } from './frame.ts';
import { inlet, outlet } from './window.ts';
import { type Wire, wireOver } from './wire.ts';

/** What {@link lentChannel} needs. */
export interface LentChannelOptions {
  /** Until the channel is open: aborting closes the socket and rejects with its reason. */
  signal: AbortSignal;
  /** What was read from the socket past the answer to the request. */
  leftover?: Uint8Array;
}

/**
 * The channel that a daemon lends over `socket`, which was made a pipe. Rejects with `LinkError`: what refused the channel, or
 * `lost` when the daemon went away.
 */
export function lentChannel(socket: Duplex, o: LentChannelOptions): Promise<Channel> {
  return new LentChannel(socket, o).opened;
}

const EMPTY: Buffer = Buffer.alloc(0);

class LentChannel implements Channel {
  readonly stream: Duplex;
  readonly exit: Promise<Exit>;
  readonly opened: Promise<Channel>;
  readonly #wire: Wire;
  readonly #exit = deferred<Exit>();
  readonly #opened = deferred<Channel>();
  readonly #stdin = outlet('stdin', (frame) => this.#wire.send(frame));
  readonly #stdoutIn = inlet('stdout', (frame) => this.#wire.send(frame));
  readonly #stderrIn = inlet('stderr', (frame) => this.#wire.send(frame));
  readonly #listeners = new Set<(chunk: Buffer) => unknown>();
  /** stdout that the stream had no room for yet; bounded by the window. `null` is its end. */
  readonly #unread: (Uint8Array | null)[] = [];
  /** Set from `opened` until the next turn of the event loop. */
  #held: (() => void)[] | undefined;
  #wanted = false;
  #ended = false;
  #tail: Buffer = Buffer.alloc(0);

  constructor(socket: Duplex, o: LentChannelOptions) {
    this.exit = this.#exit.promise;
    this.stream = new Duplex({
      allowHalfOpen: true,
      read: () => this.#read(),
      write: (chunk: Buffer, _encoding, done) => this.#stdin.write(chunk, done),
      final: (done) => {
        this.#stdin.end();
        done();
      },
      destroy: (error, done) => {
        // Both directions done is no abort: the exit is still to come.
        const complete = this.stream.readableEnded && this.stream.writableFinished;
        if (error !== null || !complete) this.#over({ type: 'lost', error: aborted(error) });
        done(error);
      },
    });
    this.stream.on('error', () => {});
    const giveUp = (): void => this.#over({ type: 'lost', error: aborted(o.signal.reason) }, o.signal.reason);
    this.opened = this.#opened.promise.finally(() => o.signal.removeEventListener('abort', giveUp));
    this.#wire = wireOver(socket, {
      frame: (frame) => this.#inTurn(() => this.#frame(frame)),
      closed: (error) => this.#inTurn(() => this.#over({ type: 'lost', error: daemonGone(error) })),
      ...(o.leftover === undefined ? {} : { leftover: o.leftover }),
    });
    if (o.signal.aborted) giveUp();
    else o.signal.addEventListener('abort', giveUp);
  }

  stderrTail(): Buffer {
    return this.#tail;
  }

  onStderr(listener: (chunk: Buffer) => unknown): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  signal(name: string): void {
    this.#wire.send({ type: 'signal', name });
  }

  abort(reason: Error): void {
    this.#over({ type: 'lost', error: aborted(reason) }, reason);
  }

  /** What came with `opened` waits until whoever asked could listen: it may be all of stderr, and the exit. */
  #inTurn(step: () => void): void {
    if (this.#held === undefined) step();
    else this.#held.push(step);
  }

  #release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    try {
      for (const step of held) step();
    } catch (error) {
      this.#over({ type: 'lost', error: daemonGone(error instanceof Error ? error : undefined) });
    }
  }

  #frame(frame: Frame): void {
    switch (frame.type) {
      case 'opened':
        this.#held = [];
        this.#opened.resolve(this);
        setImmediate(() => this.#release());
        return;
      case 'refused':
        this.#over({ type: 'lost', error: errorOf(frame.fault) });
        return;
      case 'exit':
        this.#over(fromPipeExit(frame.exit));
        return;
      case 'signal':
        break;
      default:
        if (this.#streamFrame(frame)) return;
    }
    throw new FrameError(`a daemon does not send ${frame.type}`);
  }

  /** False when that stream does not go this way. */
  #streamFrame(frame: Frame & { stream: StreamName }): boolean {
    if ((frame.type === 'grant') !== (frame.stream === 'stdin')) return false;
    if (frame.type === 'grant') this.#stdin.grant(frame.bytes);
    else if (frame.stream === 'stderr') this.#stderr(frame.type === 'data' ? Buffer.from(frame.bytes) : EMPTY);
    else this.#stdout(frame.type === 'data' ? frame.bytes : null);
    return true;
  }

  #stdout(chunk: Uint8Array | null): void {
    this.#stdoutIn.received(chunk?.length ?? 0);
    this.#unread.push(chunk);
    this.#flow();
  }

  #read(): void {
    this.#wanted = true;
    this.#flow();
  }

  /** Hands stdout on as far as the reader has room. */
  #flow(): void {
    while (this.#wanted) {
      const chunk = this.#unread.shift();
      if (chunk === undefined) return;
      // Set before `push`, which may ask for more in the same breath.
      this.#wanted = false;
      if (this.stream.push(chunk)) this.#wanted = true;
      if (chunk === null) this.#wanted = false;
      else this.#stdoutIn.taken(chunk.length);
    }
  }

  #stderr(chunk: Buffer): void {
    if (chunk.length === 0) return;
    this.#stderrIn.received(chunk.length);
    this.#tail = Buffer.concat([this.#tail, chunk]).subarray(-STDERR_TAIL_BYTES);
    const holding = [...this.#listeners].map((listener) => listener(chunk)).filter((held) => held instanceof Promise);
    if (holding.length === 0) this.#stderrIn.taken(chunk.length);
    else void Promise.allSettled(holding).then(() => this.#stderrIn.taken(chunk.length));
  }

  /** The first end counts. */
  #over(exit: Exit, reason?: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#exit.resolve(exit);
    if (exit.type === 'lost') {
      this.#opened.reject(reason ?? exit.error);
      this.stream.destroy(reason ?? exit.error);
      this.#wire.destroy();
      return;
    }
    // Late writes have nobody to go to, and must not take with them the output that is still unread.
    if (!this.stream.readableEnded) this.stream.once('end', () => this.stream.destroy());
    else this.stream.destroy();
    this.#wire.end();
  }
}

function aborted(cause: unknown): LinkError {
  if (cause instanceof LinkError) return cause;
  return new LinkError('the channel was aborted', { code: 'aborted', layer: 'channel', cause });
}

function daemonGone(cause: Error | undefined): LinkError {
  const why = cause instanceof FrameError ? `sent what is no pipe (${cause.message})` : 'went away';
  return new LinkError(`the daemon ${why}`, { code: 'lost', layer: 'channel', cause });
}
