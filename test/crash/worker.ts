import { nodeDisk } from '@postern/spool';
import { live, quickDisk, worldAt } from './world.ts';

/**
 * Lives in the world of its first argument, writing a dot for each step forward, until it is killed, or, with a count as its second, until it has sent so
 * many and all is done. A third argument `quick` leaves out the syncs: a process that is killed needs none, and gets further.
 */
const world = worldAt(process.argv[2] ?? '');
const count = Number(process.argv[3] || Number.POSITIVE_INFINITY);
const disk = process.argv[4] === 'quick' ? quickDisk : nodeDisk;
const SENDERS = 6;
/** Entries waiting at which senders pause, so that deliveries keep up. */
const ENOUGH = 60;

const paused: (() => void)[] = [];
const life = await live(world, disk, {
  onProgress(what) {
    process.stdout.write('.');
    if (what === 'taken') paused.shift()?.();
  },
});
let sent = 0;
const waiting = (): number => [...life.spool.entries()].filter((state) => !state.held).length;
// What died with it three times is held; a person lets it go again.
for (const { id, held } of [...life.spool.entries()]) if (held && Math.random() < 0.5) void life.runner.release(id);

async function sender(): Promise<void> {
  while (sent < count) {
    const marker = `${process.pid}-${sent++}`;
    await life.send(marker);
    while (waiting() > ENOUGH) await new Promise<void>((resolve) => paused.push(resolve));
  }
}

await Promise.all(Array.from({ length: SENDERS }, sender));
while (waiting() > 0) await new Promise((resolve) => setTimeout(resolve, 1));
await life.close();
