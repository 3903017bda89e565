/** A daemon's link as its borrower sees it: asked for, then a channel like any other. */
import { connect, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import type { Env } from '@postern/core';
import { type Channel, deferred, type Exit, LinkError, STDERR_TAIL_BYTES } from '@postern/core';
import { PosternError } from '../base/errors.ts';
import { errorOf, type Frame, FrameError, fromPipeExit, type StreamName } from './protocol.ts';
import type { PipeAsk } from './request.ts';
import { inlet, outlet, type Wire, wireOver } from './stream.ts';

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

/** How long a daemon that accepted the connection may take to answer, milliseconds; one that is frozen must not keep us. */
export const ANSWER_MS = 5000;

/** Longest answer, octets. */
const MAX_ANSWER_BYTES = 64 * 1024;

/** What came of asking the daemon. */
export type Borrowed =
  /** Frames from here on. */
  | { readonly type: 'lent'; readonly socket: Socket; readonly leftover: Buffer }
  /** No daemon, or none that has such a link; `why` is for `-v`. */
  | { readonly type: 'none'; readonly why: string };

/** Asks the daemon behind `path` for a channel. Rejects with the signal's reason, or the `PosternError` it answered. */
export function borrow(path: string, ask: PipeAsk, o: { env: Env; signal: AbortSignal }): Promise<Borrowed> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let answer: Buffer = Buffer.alloc(0);
    const end = (settle: () => void): void => {
      late[Symbol.dispose]();
      o.signal.removeEventListener('abort', onAbort);
      socket.off('data', onData).off('error', onGone).off('close', onGone);
      settle();
    };
    const none = (why: string): void =>
      end(() => {
        socket.on('error', () => {});
        socket.destroy();
        resolve({ type: 'none', why });
      });
    const onGone = (error?: Error | boolean): void =>
      none(
        error instanceof Error ? `no daemon answers (${(error as NodeJS.ErrnoException).code})` : 'the daemon hung up',
      );
    const onAbort = (): void =>
      end(() => {
        socket.on('error', () => {});
        socket.destroy();
        reject(o.signal.reason);
      });
    const onData = (chunk: Buffer): void => {
      answer = Buffer.concat([answer, chunk]);
      const newline = answer.indexOf(0x0a);
      if (newline === -1) {
        if (answer.length > MAX_ANSWER_BYTES) none('the daemon answers without end');
        return;
      }
      const said = read(answer.subarray(0, newline).toString());
      if (said === 'none') none('the daemon has no such link');
      else end(() => settle(said, answer.subarray(newline + 1)));
    };
    const settle = (said: 'lent' | PosternError, leftover: Buffer): void => {
      socket.pause();
      if (said === 'lent') {
        resolve({ type: 'lent', socket, leftover });
      } else {
        socket.destroy();
        reject(said);
      }
    };
    const late = o.env.schedule(ANSWER_MS, () => none('the daemon does not answer'));
    socket.on('data', onData).on('error', onGone).on('close', onGone);
    o.signal.addEventListener('abort', onAbort);
    if (o.signal.aborted) onAbort();
    socket.write(`${JSON.stringify({ method: 'pipe', params: ask })}\n`);
  });
}

function read(line: string): 'lent' | 'none' | PosternError {
  const { result, error } = JSON.parse(line) as { result?: unknown; error?: { code: string; message: string } };
  if (result === null) return 'lent';
  // An older daemon does not know the request.
  if (error === undefined || error.code === 'usage') return 'none';
  return new PosternError('unavailable', error.message);
}
