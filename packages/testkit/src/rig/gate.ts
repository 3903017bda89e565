/** A gate as tests have it: programs come from the private cache, and nothing is installed. */
import { delimiter } from 'node:path';
import { findProgram, type Gate, type GateOptions, PROGRAMS, startGate } from '@postern/gate';
import { rigPrograms } from './cache.ts';

/** Options of {@link startGate}, all of them optional. */
export type RigOptions = Partial<GateOptions>;

/**
 * A real sshd, imapd and Exim on loopback, from this machine's programs or the shared cache. Dispose it after the test. Where no ssh is installed the gate's own
 * is put into PATH, since what is tested asks `ssh -G`.
 */
export async function startRig(o: RigOptions = {}): Promise<Gate> {
  const gate = await startGate({ ...rigPrograms(), ...o });
  const { bin } = gate.client;
  if (bin !== undefined && !(await hasSsh())) process.env.PATH = `${process.env.PATH ?? ''}${delimiter}${bin}`;
  return gate;
}

/** An installed client, whatever the tests prefer. */
async function hasSsh(): Promise<boolean> {
  const { root } = await findProgram(PROGRAMS.client, { ...rigPrograms(), prefer: 'system' });
  return root === '/';
}
