/**
 * The least a durable queue can do, nothing else: DIR COUNT SESSIONS OCTETS own|shared. Each session in turn makes a file, writes, syncs, renames and syncs the
 * directory, by itself (`own`) or with whoever asks meanwhile (`shared`). Prints the milliseconds.
 */
import { open, rename } from 'node:fs/promises';
import { join } from 'node:path';

const [dir = '', count = '0', sessions = '1', octets = '0', how] = process.argv.slice(2);
const bytes = Buffer.alloc(Number(octets), 'x');
const directory = await open(dir);
let left = Number(count);
let running = Promise.resolve();
let next;

function syncDirectory() {
  if (how !== 'shared') return directory.sync();
  next ??= running.then(() => {
    next = undefined;
    running = directory.sync();
    return running;
  });
  return next;
}

async function session() {
  while (left > 0) {
    const name = join(dir, `${process.pid}.${left--}`);
    const file = await open(`${name}.tmp`, 'wx', 0o600);
    await file.write(bytes);
    await file.sync();
    await file.close();
    await rename(`${name}.tmp`, name);
    await syncDirectory();
  }
}

const start = performance.now();
await Promise.all(Array.from({ length: Number(sessions) }, session));
console.log(performance.now() - start);
await directory.close();
