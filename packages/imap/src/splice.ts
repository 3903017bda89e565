/** Two streams made one, after login: not a byte is touched. */
import type { Duplex } from 'node:stream';
import {
  type Channel,
  deferred,
  type Env,
  LinkError,
  MAX_TRACKED_RESPONSE_LINE,
  responseAnnounces,
  responseText,
  StreamFramer,
} from '@postern/core';
import type { SpliceEnd } from './event.ts';
import { HALF_CLOSED_SILENCE_MS, LINGER_MS } from './limits.ts';

/** A running splice. */
export interface Splice {
  /** Resolves once, when both sides are closed. Never rejects. */
  readonly done: Promise<SpliceEnd>;
  /** Ends it from here: `* BYE [UNAVAILABLE] reason` to the client, EOF to the far side. */
  close(reason: string): void;
}

/** What {@link splice} needs. `host` names the link in the BYE of a lost one. */
export interface SpliceOptions {
  readonly host: string;
  readonly env: Env;
}

/**
 * Moves bytes both ways with backpressure and half-close. When the far side ends, the client gets its last bytes and FIN; when the link
 * is lost, `* BYE` before it, unless a response was cut, be it in its literal (then a BYE could be taken for message text). Never a bare reset.
 */
export function splice(client: Duplex, channel: Channel, o: SpliceOptions): Splice {
  const far = channel.stream;
  const done = deferred<SpliceEnd>();
  let over: SpliceEnd | undefined;
  /** Where the client stands in what it was given: a BYE may follow a whole response only. */
  const given = new StreamFramer({ maxLine: MAX_TRACKED_RESPONSE_LINE, announces: responseAnnounces });
  let silence: Disposable | undefined;

  const finish = (why: SpliceEnd, bye?: string): void => {
    if (over !== undefined) return;
    over = why;
    silence?.[Symbol.dispose]();
    client.unpipe(far);
    far.off('data', onData).pause();
    if (why === 'client') channel.abort(new Error('the client is gone'));
    else if (why === 'closed') far.end();
    if (bye !== undefined && given.atBoundary && client.writable) {
      client.write(`* BYE [UNAVAILABLE] ${responseText(bye)}\r\n`);
    }
    void closeGently(client, o.env).then(() => {
      if (why === 'closed') channel.abort(new Error('closed'));
      done.resolve(why);
    });
  };
  const armSilence = (): void => {
    silence?.[Symbol.dispose]();
    silence = o.env.schedule(HALF_CLOSED_SILENCE_MS, () => finish('client'));
  };

  const onData = (chunk: Buffer): void => {
    given.push(chunk, () => {});
    if (silence !== undefined) armSilence();
    if (!client.write(chunk)) {
      far.pause();
      client.once('drain', () => over === undefined && far.resume());
    }
    if (client.writableLength === 0) channel.release?.(chunk);
  };
  far.once('end', () => finish('far'));
  far.once('error', (error) => finish('lost', lostBecause(error, o.host)));
  far.once('close', () => finish(far.readableEnded ? 'far' : 'lost'));
  client.once('end', armSilence);
  client.once('error', () => finish('client'));
  client.once('close', () => finish('client'));
  far.on('data', onData).resume();
  client.pipe(far);
  return { done: done.promise, close: (reason) => finish('closed', reason) };
}

/** Why a session is over whose far side broke off, for people. */
export function lostBecause(error: Error, host: string): string {
  return error instanceof LinkError ? error.message : `lost the link to ${host}: ${error.message}`;
}

/**
 * FIN to the peer and a wait for its own, discarding what it still sends: closing a socket with unread input would reset it, and
 * the peer would lose what was said last. Resolves when it is closed, after `LINGER_MS` by force.
 */
export function closeGently(socket: Duplex, env: Env): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) return resolve();
    const timer = env.schedule(LINGER_MS, () => socket.destroy());
    socket.once('close', () => {
      timer[Symbol.dispose]();
      resolve();
    });
    socket.on('error', () => {});
    socket.end();
    socket.resume();
  });
}
