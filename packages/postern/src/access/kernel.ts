import { readdirSync, readlinkSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { findEstablished } from './proc-net.ts';

/** What the kernel says of a peer on a loopback TCP connection. */
export type Peer =
  | { readonly type: 'user'; readonly uid: number }
  /** The far end of the connection is a socket of this very process. */
  | { readonly type: 'ourselves' }
  /** The kernel cannot tell, or does not say so for sure. */
  | { readonly type: 'unknown' };

/**
 * Asks the kernel who holds the other end of an accepted TCP connection. Never rejects. Only Linux can tell; elsewhere every peer is
 * unknown.
 */
export async function identifyPeer(socket: Socket): Promise<Peer> {
  const { remoteAddress, remotePort, localAddress, localPort } = socket;
  if (process.platform !== 'linux') return { type: 'unknown' };
  if (!remoteAddress || !remotePort || !localAddress || !localPort) return { type: 'unknown' };
  try {
    const peer = { address: remoteAddress, port: remotePort };
    const own = { address: localAddress, port: localPort };
    // The kernel keeps both families in one table: what is in the first text is not in the second.
    const row =
      findEstablished({ tcp: await readTcp(), tcp6: '' }, peer, own) ??
      findEstablished({ tcp: '', tcp6: await readTcp6() }, peer, own);
    // No inode: no process holds it any more, and the uid is 0 whoever it was (seen on Linux 6.1).
    if (row === undefined || row.inode === 0) return { type: 'unknown' };
    return holdsSocket(row.inode) ? { type: 'ourselves' } : { type: 'user', uid: row.uid };
  } catch {
    return { type: 'unknown' };
  }
}

const readTcp = shared(() => readFile('/proc/self/net/tcp', 'latin1'));
const readTcp6 = shared(() => readFile('/proc/self/net/tcp6', 'latin1').catch(() => ''));

/**
 * For each text the kernel walks its whole table, which takes milliseconds: everybody who asks while one reading runs shares the next. Never one that
 * runs already, as that may have passed the asker's place.
 */
function shared(read: () => Promise<string>): () => Promise<string> {
  let running: Promise<unknown> = Promise.resolve();
  let next: Promise<string> | undefined;
  return () => {
    next ??= running.then(() => {
      next = undefined;
      const reading = read();
      running = reading.catch(() => {});
      return reading;
    });
    return next;
  };
}

/** True when a descriptor of this process is the socket with that inode. Synchronous: a descriptor takes microseconds, a thread far more. */
function holdsSocket(inode: number): boolean {
  const wanted = `socket:[${inode}]`;
  return readdirSync('/proc/self/fd').some((name) => {
    try {
      return readlinkSync(`/proc/self/fd/${name}`) === wanted;
    } catch {
      return false;
    }
  });
}
