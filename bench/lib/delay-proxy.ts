/** A process of its own, so that neither side of a measurement pays for it: PORT ROUND_TRIP_MS [MEGABITS]. Ends with its stdin. */
import { startSimulator } from '@postern/testkit';

const [port = 0, roundTripMs = 0, megabits] = process.argv.slice(2).map(Number);
const rate = megabits === undefined ? {} : { bytesPerSecond: (megabits * 1e6) / 8 };
const simulator = await startSimulator({ port, delayMs: roundTripMs / 2, ...rate });
console.log(simulator.port);
process.stdin.resume().once('end', () => process.exit(0));
