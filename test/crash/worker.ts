import { nodeDisk } from '@postern/spool';
import { live, worldAt } from './world.ts';

/** Lives in the world of its first argument until it is killed, or, with a count as its second, until it has sent so many and all is done. */
const world = worldAt(process.argv[2] ?? '');
const count = Number(process.argv[3] ?? Number.POSITIVE_INFINITY);
const SENDERS = 6;
/** Entries in the spool at which senders pause, so that deliveries keep up. */
const ENOUGH = 60;

const life = await live(world, nodeDisk);
process.stdout.write('up\n');
let sent = 0;

async function sender(): Promise<void> {
  while (sent < count) {
    const marker = `${process.pid}-${sent++}`;
    await life.send(marker);
    while ([...life.spool.entries()].length > ENOUGH) await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

await Promise.all(Array.from({ length: SENDERS }, sender));
while ([...life.spool.entries()].some((state) => !state.held)) await new Promise((resolve) => setTimeout(resolve, 1));
await life.close();
