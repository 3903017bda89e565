/** Two streams are joined until both have ended; an error of one is an error of the other. */
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

/**
 * Joins two streams both ways until both have ended: backpressure and half-close are kept, an error or an early close of one cuts the
 * other off. Both must allow half-open. Resolves with the error that ended it, if one did; never rejects. Aborting destroys both.
 */
export function join(a: Duplex, b: Duplex, o: { signal: AbortSignal }): Promise<Error | undefined> {
  return new Promise((resolve) => {
    let open = 2;
    let fault: Error | undefined;
    const end = (error: Error): void => {
      fault ??= error;
      cutOff(a);
      cutOff(b);
    };
    const onAbort = (): void => end(o.signal.reason instanceof Error ? o.signal.reason : new Error('aborted'));
    const watch = (stream: Duplex, other: Duplex): void => {
      stream.on('error', end);
      stream.once('close', () => {
        if (!stream.readableEnded || !stream.writableFinished) fault ??= stream.errored ?? new Error('closed early');
        if (fault !== undefined) cutOff(other);
        open -= 1;
        if (open > 0) return;
        o.signal.removeEventListener('abort', onAbort);
        resolve(fault);
      });
    };
    watch(a, b);
    watch(b, a);
    if (o.signal.aborted) {
      onAbort();
      return;
    }
    o.signal.addEventListener('abort', onAbort, { once: true });
    a.pipe(b);
    b.pipe(a);
  });
}

/** Ends a stream so that nobody takes what it had for all there was: with a reset where it is a TCP socket. */
export function cutOff(stream: Duplex): void {
  if (stream instanceof Socket && stream.remoteAddress !== undefined) stream.resetAndDestroy();
  else stream.destroy();
}
