/** ssh2's channel as a {@link Channel}: half-close both ways, and an error where the link went. */
import { Duplex } from 'node:stream';
import { type Channel, deferred, type Env, type Exit, LinkError, STDERR_TAIL_BYTES, type Target } from '@postern/core';
import type { ClientChannel } from 'ssh2';
import { sawOnlyEof, sendSignal } from './internals.ts';

/** Bytes read ahead of the reader before the far side is held back (ssh2's own window comes on top). */
const READ_AHEAD_BYTES = 64 * 1024;
/** How long a reader may take for what had arrived before the link was lost, ms. */
const LOST_GRACE_MS = 500;

type Done = (error?: Error | null) => void;

/** What a channel belongs to. */
export interface Ssh2ChannelOptions {
  readonly target: Target;
  readonly env: Env;
  /** Bytes left ssh2's buffer for the reader. */
  readonly onRead: () => void;
  /** The reader needs a chunk no more. */
  readonly onRelease: (chunk: Buffer) => void;
  readonly onWrite: (bytes: number) => void;
}

/**
 * A channel of ssh2 1.17.0 made honest. As it comes, a lost connection looks like a clean end, writes after the end are taken
 * silently or never called back, undrained stderr stalls stdout, `close` waits for stdout to be read, and `destroy(error)` drops
 * the error.
 */
export class Ssh2Channel implements Channel {
  readonly stream: Duplex;
  readonly exit: Promise<Exit>;
  readonly target: Target;
  readonly release: (chunk: Buffer) => void;
  readonly #raw: ClientChannel;
  readonly #env: Env;
  readonly #onWrite: (bytes: number) => void;
  readonly #isSession: boolean;
  readonly #exit = deferred<Exit>();
  readonly #stderrListeners = new Set<(chunk: Buffer) => unknown>();
  #stderrTail: Buffer = Buffer.alloc(0);
  #status: Exit | undefined;
  #lost: LinkError | undefined;
  #farClosed = false;
  /** The callback of the write in flight: ssh2 forgets it when the channel ends. */
  #writing: Done | undefined;

  /** Must be called in the very callback that yields `raw`: its events do not wait. */
  constructor(raw: ClientChannel, o: Ssh2ChannelOptions) {
    this.#raw = raw;
    this.#env = o.env;
    this.#onWrite = o.onWrite;
    this.target = o.target;
    this.release = o.onRelease;
    this.#isSession = o.target.type === 'exec' || o.target.type === 'subsystem';
    this.exit = this.#exit.promise;
    this.stream = new ChannelStream({
      readableHighWaterMark: READ_AHEAD_BYTES,
      read: () => void raw.resume(),
      write: (chunk, done) => this.#write(chunk, done),
      final: (done) => {
        if (!this.#farClosed && this.#lost === undefined) raw.end();
        done();
      },
      destroy: (error, done) => this.#destroy(error, done),
    });
    // A channel may be lost when nobody listens; the exit tells it as well.
    this.stream.on('error', () => {});
    raw.on('error', () => {});
    raw.on('data', (chunk: Buffer) => {
      if (!this.stream.push(chunk)) raw.pause();
      o.onRead();
    });
    raw.on('end', () => this.#onRawEnd());
    raw.on('exit', (code: number | null, signal?: string) => {
      this.#status =
        code === null
          ? { type: 'signal', name: String(signal).replace(/^SIG/, '') }
          : { type: 'exit', code: Number(code) };
    });
    raw.stderr.on('error', () => {});
    // Not before whoever opened it could listen: the first words may have come in one packet with the confirmation.
    setImmediate(() => raw.stderr.on('data', (chunk: Buffer) => this.#onStderr(chunk)));
    // `close` of the channel itself waits until stdout is read; that of stderr, always drained, tells of CHANNEL_CLOSE at once.
    raw.stderr.on('close', () => this.#onFarClosed());
  }

  stderrTail(): Buffer {
    return this.#stderrTail;
  }

  onStderr(listener: (chunk: Buffer) => unknown): Disposable {
    this.#stderrListeners.add(listener);
    return { [Symbol.dispose]: () => void this.#stderrListeners.delete(listener) };
  }

  signal(name: string): void {
    // A command that has told its status is over: sshd 10.6 logs a signal to one as an error.
    if (this.#farClosed || this.#lost !== undefined || this.#status !== undefined || !this.#isSession) return;
    try {
      sendSignal(this.#raw, name);
    } catch {
      // Not a signal SSH knows (RFC 4254 §6.10): best effort.
    }
  }

  abort(reason: Error): void {
    this.#exit.resolve({ type: 'lost', error: aborted(reason) });
    this.stream.destroy(reason);
  }

  /** The connection underneath is gone. What had arrived may still be read for a moment, then the stream errors. */
  lose(error: LinkError): void {
    if (this.#lost !== undefined || this.#farClosed) return;
    this.#lost = error;
    this.#exit.resolve({ type: 'lost', error });
    const { stream } = this;
    this.#raw.removeAllListeners('data');
    for (let chunk = this.#raw.read(); chunk !== null; chunk = this.#raw.read())
      if (!stream.destroyed) stream.push(chunk);
    if (stream.readableLength === 0 || stream.readableEnded) {
      stream.destroy(error);
      return;
    }
    const grace = this.#env.schedule(LOST_GRACE_MS, () => stream.destroy(error));
    stream.once('close', () => grace[Symbol.dispose]());
    (stream as ChannelStream).destroyWhenRead(error);
  }

  #onStderr(chunk: Buffer): void {
    this.#stderrTail = Buffer.from(Buffer.concat([this.#stderrTail, chunk]).subarray(-STDERR_TAIL_BYTES));
    const held = [...this.#stderrListeners]
      .map((listener) => listener(chunk))
      .filter((wait) => wait instanceof Promise);
    if (held.length === 0) return;
    this.#raw.stderr.pause();
    void Promise.allSettled(held).then(() => this.#raw.stderr.resume());
  }

  #onRawEnd(): void {
    if (this.#lost !== undefined || this.stream.destroyed) return;
    // A session that closes without EOF and without a status was cut off (RFC 4254 §6.10: a status is always sent by OpenSSH).
    if (sawOnlyEof(this.#raw) || this.#status !== undefined || !this.#isSession) this.stream.push(null);
    else this.stream.destroy(cutOff(this.target));
  }

  #onFarClosed(): void {
    if (this.#lost !== undefined || this.#farClosed) return;
    this.#farClosed = true;
    const cleanEnd = this.#status ?? (this.#isSession && !this.stream.readableEnded ? undefined : { type: 'closed' });
    this.#exit.resolve((cleanEnd as Exit | undefined) ?? { type: 'lost', error: cutOff(this.target) });
    const writing = this.#writing;
    this.#writing = undefined;
    if (writing !== undefined) this.#failWrite(writing);
  }

  #write(chunk: Buffer, done: Done): void {
    if (this.#farClosed) {
      this.#failWrite(done);
      return;
    }
    this.#writing = done;
    // Destroyed within the grace, which fails it.
    if (this.#lost !== undefined) return;
    this.#raw.write(chunk, () => {
      if (this.#writing !== done) return;
      this.#writing = undefined;
      this.#onWrite(chunk.length);
      done();
    });
  }

  /** The far side has ended: writing fails, but not before its last words are read, since that ends the stream. */
  #failWrite(done: Done): void {
    const error = Object.assign(new Error('the far side has closed the channel'), { code: 'EPIPE' });
    if (this.stream.readableEnded) {
      done(error);
      return;
    }
    this.#writing = done;
    this.stream.once('end', () => done(error));
  }

  #destroy(error: Error | null, done: Done): void {
    const writing = this.#writing;
    this.#writing = undefined;
    if (!this.#farClosed && this.#lost === undefined) {
      // `for await` destroys a stream it has read to the end (Node 20: with an AbortError unless it is also written to its end):
      // that is no reason to kill a command about to tell its status.
      if (this.stream.readableEnded && (error === null || error.name === 'AbortError')) this.#raw.end();
      else this.#hangUp(error);
    }
    done(error);
    writing?.(error ?? Object.assign(new Error('the channel was closed'), { code: 'EPIPE' }));
  }

  /** Leaves the far side no reason to go on: HUP for the command, EOF and CLOSE, and nothing that waits to be read. */
  #hangUp(error: Error | null): void {
    this.#exit.resolve({ type: 'lost', error: aborted(error) });
    this.signal('HUP');
    try {
      this.#raw.end();
      this.#raw.close();
    } catch {
      // The connection is ending itself.
    }
    this.#raw.removeAllListeners('data');
    this.#raw.resume();
  }
}

function aborted(reason: Error | null): LinkError {
  if (reason instanceof LinkError) return reason;
  return new LinkError('the channel was closed from this side', { code: 'aborted', layer: 'channel', cause: reason });
}

function cutOff(target: Target): LinkError {
  const what = target.type === 'exec' ? `the far command ${JSON.stringify(target.command)}` : 'the channel';
  return new LinkError(`${what} was cut off: closed without an exit status`, { code: 'lost', layer: 'channel' });
}

interface ChannelStreamOptions {
  readonly readableHighWaterMark: number;
  read(): void;
  write(chunk: Buffer, done: Done): void;
  final(done: Done): void;
  destroy(error: Error | null, done: Done): void;
}

/** A Duplex that can error as soon as its last byte is read. */
class ChannelStream extends Duplex {
  #errorAtEnd: Error | undefined;
  constructor(o: ChannelStreamOptions) {
    super({
      readableHighWaterMark: o.readableHighWaterMark,
      read: () => o.read(),
      write: (chunk, _encoding, done) => o.write(chunk, done),
      final: (done) => o.final(done),
      destroy: (error, done) => o.destroy(error, done),
    });
  }
  destroyWhenRead(error: Error): void {
    this.#errorAtEnd = error;
  }
  override read(size?: number): unknown {
    const chunk: unknown = super.read(size);
    if (this.#errorAtEnd !== undefined && this.readableLength === 0)
      process.nextTick(() => this.destroy(this.#errorAtEnd));
    return chunk;
  }
}
