/** Who may come in is decided here, once, for every listener; what cannot be told means no. */
import type { Admission, Admit } from '@postern/core';
import type { AllowRule } from '../config/schema.ts';
import { identifyPeer, type Peer } from './kernel.ts';
import { verifyPassword } from './password.ts';

/** What {@link createAdmit} judges by. */
export interface AdmitOptions {
  /** The rules as they are now; asked for each connection. */
  readonly allow: () => readonly AllowRule[];
  /** The kind of listener: a Unix socket lies 0600 in a 0700 directory, so who reaches it is in. */
  readonly listener: 'tcp' | 'unix';
  /** Our uid. */
  readonly uid: number;
  /** Where the local password lies. */
  readonly stateDir: string;
  /** Asks who the peer is; the kernel unless a test knows better. */
  readonly identify?: typeof identifyPeer;
}

/** The judge of one listener. Never rejects; what the kernel does not say for sure is no. */
export function createAdmit(o: AdmitOptions): Admit {
  const identify = o.identify ?? identifyPeer;
  if (o.listener === 'unix') return () => Promise.resolve({ type: 'open', who: 'unix' });
  return async (socket) => judge(o, await identify(socket));
}

function judge(o: AdmitOptions, peer: Peer): Admission {
  // What Postern itself opened is somebody else's connection, carried: it never comes in by our own uid.
  const allow = o.allow();
  if (peer.type === 'user') {
    for (const rule of allow) {
      if (rule.type === 'same-user' && peer.uid === o.uid) return { type: 'open', who: 'same-user' };
      if (rule.type === 'user' && peer.uid === rule.uid) return { type: 'open', who: `user:${rule.name}` };
    }
  }
  if (allow.some((rule) => rule.type === 'anyone')) return { type: 'open', who: 'anyone' };
  if (allow.some((rule) => rule.type === 'password')) {
    return { type: 'password', verify: (given) => verifyPassword(o.stateDir, given) };
  }
  return { type: 'refused', reason: refusal(peer) };
}

function refusal(peer: Peer): string {
  if (peer.type === 'user') return `uid ${peer.uid} is not among those who may come in`;
  return peer.type === 'ourselves'
    ? 'the connection comes out of Postern itself'
    : 'the kernel does not say whose it is';
}
