import { type Gate, type GateOptions, startGate } from '@postern/gate';
import { rigPrograms } from './cache.ts';

/** Options of {@link startGate}, all of them optional. */
export type RigOptions = Partial<GateOptions>;

/** A real sshd, imapd and Exim on loopback, from this machine's programs or the shared cache. Dispose it after the test. */
export function startRig(o: RigOptions = {}): Promise<Gate> {
  return startGate({ ...rigPrograms(), ...o });
}
