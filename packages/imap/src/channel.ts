/** A carried session as a channel: for who lends it on and must not notice a death either. */
import { Duplex } from 'node:stream';
import { type Channel, deferred, type Env, type Exit, LinkError } from '@postern/core';
import { type Continuity, carry } from './carry.ts';
import type { Imapd } from './imapd.ts';
import type { Session } from './session.ts';

/** Joins a session to a channel, its greeting first. The channel ends when the session has ended for good; signals go nowhere. */
export function carriedChannel(session: Session, o: Continuity & { imapd: Imapd; env: Env }): Channel {
  const [near, inner] = duplexPair();
  const exit = deferred<Exit>();
  let last: Exit = { type: 'closed' };
  void session.channel.exit.then((value) => {
    last = value;
  });
  near.on('error', () => {});
  inner.on('error', () => {});
  const joined = carry(inner, session, o);
  void joined.done.then((why) => {
    if (why === 'client') exit.resolve({ type: 'lost', error: closed() });
    else exit.resolve(why === 'far' && last.type === 'exit' ? last : { type: 'closed' });
  });
  return {
    stream: near,
    exit: exit.promise,
    stderrTail: () => session.channel.stderrTail(),
    onStderr: (listener) => session.channel.onStderr(listener),
    signal: () => {},
    abort(reason) {
      near.destroy(reason);
      inner.destroy();
    },
  };
}

function closed(): LinkError {
  return new LinkError('the channel was closed from this side', { code: 'aborted', layer: 'channel' });
}

/** Two ends of a pipe that keep half-close and backpressure. (`stream.duplexPair` is missing in early releases of Node 20.) */
function duplexPair(): [Duplex, Duplex] {
  const sides: { duplex: Duplex; resume?: () => void }[] = [];
  const make = (at: number): Duplex =>
    new Duplex({
      allowHalfOpen: true,
      read() {
        const { resume } = sides[at] as { resume?: () => void };
        delete (sides[at] as { resume?: () => void }).resume;
        resume?.();
      },
      write(chunk, _encoding, done) {
        const other = sides[1 - at] as { duplex: Duplex; resume?: () => void };
        if (other.duplex.destroyed) done(closed());
        else if (other.duplex.push(chunk)) done();
        else other.resume = done;
      },
      final(done) {
        const other = sides[1 - at] as { duplex: Duplex };
        if (!other.duplex.destroyed) other.duplex.push(null);
        done();
      },
      destroy(error, done) {
        const other = sides[1 - at] as { duplex: Duplex; resume?: () => void };
        done(error);
        // Nobody takes what the other end writes any more.
        if (!other.duplex.destroyed && !other.duplex.readableEnded) other.duplex.push(null);
      },
    });
  sides.push({ duplex: make(0) });
  sides.push({ duplex: make(1) });
  return [(sides[0] as { duplex: Duplex }).duplex, (sides[1] as { duplex: Duplex }).duplex];
}
