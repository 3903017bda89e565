/** Every process of a gate is ended by its id, however it was born, and then its directory goes. */
import { rm } from 'node:fs/promises';
import { descendants, markedProcesses, signalAll } from './processes.ts';
import type { Daemon } from './run.ts';

/** Processes may be born while others are killed: how often the marked ones are looked for. */
const SWEEPS = 3;

/** Ends every process of a gate, each by its id, and removes its directory. */
export async function teardown(o: { dir: string; daemons: Set<Daemon> }): Promise<void> {
  const running = [...o.daemons].filter((daemon) => daemon.running);
  // Collected before the first kill: children of a dead listener have another parent.
  const beneath = await Promise.all(running.map((daemon) => descendants(daemon.pid)));
  for (const daemon of running) daemon.kill('SIGKILL');
  signalAll(
    beneath.flat().map((process) => process.pid),
    'SIGKILL',
  );
  await Promise.all(running.map((daemon) => daemon.ended));
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const left = await markedProcesses(o.dir);
    if (left.length === 0) break;
    signalAll(left, 'SIGKILL');
  }
  o.daemons.clear();
  await rm(o.dir, { recursive: true, force: true, maxRetries: SWEEPS });
}
