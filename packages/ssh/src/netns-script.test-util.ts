import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { readAll, streamError } from './conformance.test-util.ts';
import { recordedLink, resolveRig, startSshRig } from './rig.test-util.ts';

/** Runs in a network namespace of its own, where this machine's address can be changed for real; prints what it saw as JSON. */

const run = promisify(execFile);
const ip = (line: string): Promise<unknown> => run('ip', line.split(' '));
const signal = new AbortController().signal;

/** Connections to 127.0.0.1 go out under this address. */
const sourceAddress = (address: string): Promise<unknown> =>
  ip(`route replace local 127.0.0.1 dev lo src ${address} table local`);

await ip('link set lo up');
await ip('link add p0 type veth peer name p1');
for (const name of ['p0', 'p1']) await ip(`link set ${name} up`);
await ip('addr add 10.99.7.1/24 dev p0');
await sourceAddress('10.99.7.1');
const rig = await startSshRig();
const { link, events } = recordedLink(await resolveRig(rig));
const channel = await link.open({ type: 'exec', command: 'echo ready; cat' }, { signal });
await once(channel.stream, 'data');
const probes = (): number => events.filter((event) => event.type === 'probing').length;

// One address more: the connection is asked, and stays.
await ip('addr add 10.99.8.1/24 dev p0');
while (probes() === 0) await new Promise((resolve) => setTimeout(resolve, 20));
channel.stream.write('kept');
const [echo] = (await once(channel.stream, 'data')) as [Buffer];

// Its own address gone, as after a change of network.
const failing = streamError(channel);
const from = performance.now();
await ip('addr del 10.99.7.1/24 dev p0');
await ip('addr add 10.99.7.2/24 dev p0');
await sourceAddress('10.99.7.2');
const error = await failing;
const again = await readAll(await link.open({ type: 'exec', command: 'echo again' }, { signal }));
const replacedMs = Math.round(performance.now() - from);
await link.close();
await rig.stop();
process.stdout.write(JSON.stringify({ echo: String(echo), error: error.message, again: String(again), replacedMs }));
