import { startGate } from './index.ts';

/** A program of its own: starts a gate and keeps it, until it is killed. */
const gate = await startGate({ cacheDir: process.argv[2] ?? '', prefer: 'cache', imapd: false });
const listeners = [(await gate.ssh.pids())[0], (await gate.smtp?.pids())?.[0]];
process.stdout.write(`${JSON.stringify({ dir: gate.dir, listeners })}\n`);
setInterval(() => undefined, 2 ** 30);
