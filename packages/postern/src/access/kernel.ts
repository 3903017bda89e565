/** Whose process a local peer is, as the kernel says it; a missing or doubtful answer is none. */
import { fstatSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { type Endpoint, findEstablished } from './proc-net.ts';

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
  const peer = { address: remoteAddress, port: remotePort };
  const own = { address: localAddress, port: localPort };
  try {
    return await findPeer(READINGS, peer, own);
  } catch {
    return { type: 'unknown' };
  }
}

/** A table of TCP connections as the kernel prints it, and the inodes of this process's own sockets just before. */
export interface Reading {
  readonly text: string;
  readonly ours: ReadonlySet<number>;
}

/**
 * Looks for the socket whose own end is `peer` and whose far end is `own`. The kernel keeps v4 and v6 in one table: what is in the first text is not in the second.
 * A reading may leave a row out while others come and go, so what is in neither is looked for once more.
 */
export async function findPeer(
  readings: readonly [tcp: () => Promise<Reading>, tcp6: () => Promise<Reading>],
  peer: Endpoint,
  own: Endpoint,
): Promise<Peer> {
  for (const read of [...readings, ...readings]) {
    const { text, ours } = await read();
    const row = findEstablished(text, peer, own);
    if (row === undefined) continue;
    // No inode: no process holds it any more, and the uid is 0 whoever it was (seen on Linux 6.1).
    if (row.inode === 0) return { type: 'unknown' };
    return ours.has(row.inode) ? { type: 'ourselves' } : { type: 'user', uid: row.uid };
  }
  return { type: 'unknown' };
}

const READINGS = [
  shared(() => readFile('/proc/self/net/tcp', 'latin1')),
  shared(() => readFile('/proc/self/net/tcp6', 'latin1').catch(() => '')),
] as const;

/**
 * For each text the kernel walks its whole table, which takes milliseconds: everybody who asks while one reading runs shares the next. Never one that
 * runs already, as that may have passed the asker's place.
 */
function shared(read: () => Promise<string>): () => Promise<Reading> {
  let running: Promise<unknown> = Promise.resolve();
  let next: Promise<Reading> | undefined;
  return () => {
    next ??= running.then(() => {
      next = undefined;
      const ours = ownSockets();
      const reading = read().then((text) => ({ text, ours }));
      running = reading.catch(() => {});
      return reading;
    });
    return next;
  };
}

/** Synchronous: a descriptor takes a microsecond, a thread far more. */
function ownSockets(): Set<number> {
  const inodes = new Set<number>();
  for (const name of readdirSync('/proc/self/fd')) {
    try {
      const stat = fstatSync(Number(name));
      if (stat.isSocket()) inodes.add(stat.ino);
    } catch {
      // The directory's own descriptor is closed again.
    }
  }
  return inodes;
}
