import { readdir, readFile, readlink } from 'node:fs/promises';
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
    const [tcp, tcp6] = await Promise.all([
      readFile('/proc/self/net/tcp', 'latin1'),
      readFile('/proc/self/net/tcp6', 'latin1').catch(() => ''),
    ]);
    const peer = { address: remoteAddress, port: remotePort };
    const row = findEstablished({ tcp, tcp6 }, peer, { address: localAddress, port: localPort });
    // No inode: no process holds it any more, and the uid is 0 whoever it was (seen on Linux 6.1).
    if (row === undefined || row.inode === 0) return { type: 'unknown' };
    return (await holdsSocket(row.inode)) ? { type: 'ourselves' } : { type: 'user', uid: row.uid };
  } catch {
    return { type: 'unknown' };
  }
}

/** True when a descriptor of this process is the socket with that inode. */
async function holdsSocket(inode: number): Promise<boolean> {
  const wanted = `socket:[${inode}]`;
  const names = await readdir('/proc/self/fd');
  const links = await Promise.all(names.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => '')));
  return links.includes(wanted);
}
