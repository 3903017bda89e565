import { type Gate, readMaildir } from '@postern/gate';
import type { Simulator } from '@postern/testkit';
import { startRig } from '@postern/testkit/rig';
import { createTransport } from 'nodemailer';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { lineTo } from './support/line.ts';
import { hostPort, makePlace, type Place, postern, type Up, up } from './support/postern.ts';

/** A line that breaks again and again in the middle of a message, whatever of it has left this machine by then. */
let gate: Gate;
let line: Simulator;
let place: Place;
let daemon: Up;
const ME = 'gate@gate.test';
/** More than the uncertain attempts after which an entry is held. */
const FLAPS = 6;
const OCTETS = 1_000_000;
/** Carried of a message before the line breaks. */
const CUT = 100_000;
/** All of it takes so long that no cut comes too late. */
const BYTES_PER_SECOND = 60_000;

beforeAll(async () => {
  gate = await startRig();
  const through = await lineTo(gate);
  line = through.line;
  const tables = '[smtp]\nlisten = ["127.0.0.1:0"]\n[[route]]\nmatch = ["*"]\nhost = "gate"\n';
  place = await makePlace(gate, through.host + tables, 'flaps');
  daemon = await up(place);
});
afterAll(async () => {
  await daemon?.stop();
  await line?.[Symbol.asyncDispose]();
  await gate?.stop();
});

interface Row {
  readonly state: string;
  readonly attempts: number;
}
const queue = async (): Promise<Row[]> => JSON.parse((await postern(place, ['queue', '--json'])).stdout) as Row[];

test(`a message that is cut ${FLAPS} times by its line is not charged, not held, and arrives once`, async () => {
  line.shape({ bytesPerSecond: BYTES_PER_SECOND });
  const transport = createTransport({ ...hostPort(daemon.smtp[0]), secure: false, ignoreTLS: true });
  await transport.sendMail({ from: ME, to: ME, subject: 'cut', text: `${'x'.repeat(70)}\n`.repeat(OCTETS / 71) });
  transport.close();
  const seen: Row[] = [];
  for (let flap = 0; flap < FLAPS; flap++) {
    const before = line.carried.up;
    await expect.poll(() => line.carried.up - before, { timeout: 120_000, interval: 20 }).toBeGreaterThan(CUT);
    line.refuse();
    line.reset();
    seen.push(...(await queue()));
    await line.accept();
    await postern(place, ['queue', 'flush']);
  }
  line.shape({});
  // One shows until the receipt has been looked at: the message may have been there.
  expect(Math.max(...seen.map(({ attempts }) => attempts))).toBeLessThanOrEqual(1);
  expect(seen.map(({ state }) => state)).not.toContain('held');
  await expect.poll(queue, { timeout: 120_000 }).toEqual([]);
  await expect.poll(async () => (await readMaildir(gate.maildir)).length, { timeout: 30_000 }).toBe(1);
}, 900_000);
