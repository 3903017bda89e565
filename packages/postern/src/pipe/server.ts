/** Lends one channel over a socket; the borrower's death ends it. */
import { type Duplex, PassThrough } from 'node:stream';
import { type Channel, type Exit, LinkError } from '@postern/core';
import { type Frame, FrameError, faultOf, toPipeExit } from './protocol.ts';
import { inlet, outlet, outletStream, over, passStderr, readToEnd, type Wire, wireOver } from './stream.ts';

/** How a lent channel went, for the daemon's log. */
export type PipeEnd =
  | { readonly type: 'ended'; readonly exit: Exit }
  | { readonly type: 'refused'; readonly error: unknown }
  /** The client went away first; the channel was aborted. */
  | { readonly type: 'abandoned' };

/** What {@link servePipe} needs. */
export interface ServePipeOptions {
  /** Opens the channel to lend; `signal` aborts when the client goes away meanwhile. */
  open(o: { signal: AbortSignal }): Promise<Channel>;
  /** What was read from the socket past the request. */
  leftover?: Uint8Array;
}

/**
 * Lends one channel over a socket that speaks frames from here on. Resolves when the pipe is over, with what became of it; never rejects.
 * The socket is ended then; it closes when the client has read everything.
 */
export async function servePipe(socket: Duplex, o: ServePipeOptions): Promise<PipeEnd> {
  const gone = new AbortController();
  const pipe = new ServedPipe(socket, o.leftover, gone);
  try {
    let channel: Channel;
    try {
      channel = await o.open({ signal: gone.signal });
    } catch (error) {
      if (gone.signal.aborted) return { type: 'abandoned' };
      pipe.wire.send({ type: 'refused', fault: faultOf(error) });
      return { type: 'refused', error };
    }
    const exit = await pipe.run(channel);
    if (gone.signal.aborted) return { type: 'abandoned' };
    pipe.wire.send({ type: 'exit', exit: toPipeExit(exit) });
    return { type: 'ended', exit };
  } finally {
    pipe.wire.end();
  }
}

class ServedPipe {
  readonly wire: Wire;
  readonly #gone: AbortController;
  readonly #stdin = new PassThrough();
  readonly #stdinIn = inlet('stdin', (frame) => this.wire.send(frame));
  readonly #stdout = outlet('stdout', (frame) => this.wire.send(frame));
  readonly #stderr = outlet('stderr', (frame) => this.wire.send(frame));
  #channel: Channel | undefined;

  constructor(socket: Duplex, leftover: Uint8Array | undefined, gone: AbortController) {
    this.#gone = gone;
    this.wire = wireOver(socket, {
      frame: (frame) => this.#frame(frame),
      closed: () =>
        gone.abort(new LinkError('the client of the pipe went away', { code: 'aborted', layer: 'channel' })),
      ...(leftover === undefined ? {} : { leftover }),
    });
  }

  /** Bridges until the channel has ended and all of its output was taken, or the client is gone. */
  async run(channel: Channel): Promise<Exit> {
    const { signal } = this.#gone;
    this.#channel = channel;
    const stdout = outletStream(this.#stdout);
    const stderr = outletStream(this.#stderr);
    const abandon = (): void => {
      channel.abort(signal.reason);
      stdout.destroy();
      stderr.destroy();
    };
    signal.addEventListener('abort', abandon);
    if (signal.aborted) abandon();
    this.wire.send({ type: 'opened' });
    const listening = passStderr(channel, stderr);
    channel.stream.on('error', () => {});
    channel.stream.pipe(stdout);
    this.#stdin.pipe(channel.stream);
    const [exit] = await Promise.all([channel.exit, readToEnd(channel.stream)]);
    listening[Symbol.dispose]();
    this.#stdin.unpipe(channel.stream);
    stdout.end();
    stderr.end();
    await Promise.all([over(stdout), over(stderr)]);
    signal.removeEventListener('abort', abandon);
    return exit;
  }

  #frame(frame: Frame): void {
    switch (frame.type) {
      case 'data': {
        if (frame.stream !== 'stdin') break;
        const { length } = frame.bytes;
        this.#stdinIn.received(length);
        this.#stdin.write(frame.bytes, () => this.#stdinIn.taken(length));
        return;
      }
      case 'eof':
        if (frame.stream !== 'stdin') break;
        this.#stdin.end();
        return;
      case 'grant':
        if (frame.stream === 'stdin') break;
        (frame.stream === 'stdout' ? this.#stdout : this.#stderr).grant(frame.bytes);
        return;
      case 'signal':
        this.#channel?.signal(frame.name);
        return;
    }
    throw new FrameError(`a client does not send ${frame.type}`);
  }
}
