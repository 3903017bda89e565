/** Each row of docs/programs.md, asked of a real Postfix and of Postern. */
import { readFileSync } from 'node:fs';
import type { Gate } from '@postern/gate';
import { startPostfix, startRig } from '@postern/testkit/rig';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hostPort, makePlace, PLAIN, type Up, up } from './support/postern.ts';
import { ODDITIES, type Oddity, programsTable } from './support/programs.ts';
import { Wire } from './support/wire.ts';

let gate: Gate;
let daemon: Up;
let postfix: number;
beforeAll(async () => {
  gate = await startRig({ imapd: false, smtp: false });
  postfix = (await startPostfix(gate, { domains: ['gate.test'] })).port;
  daemon = await up(await makePlace(gate, PLAIN));
});
afterAll(async () => {
  await daemon?.stop();
  await gate?.stop();
});

/** The codes of the replies to its commands, the greeting's left out. */
async function codes(port: number, { say }: Oddity): Promise<string> {
  const wire = new Wire(port);
  const reply = async (): Promise<string> => (await wire.upTo(/^\d{3}(?: [^\r\n]*)?\r\n/m)).slice(-400);
  await reply();
  const got: string[] = [];
  for (const command of say) {
    wire.send(`${command}\r\n`);
    const text = await reply().catch(() => '---');
    got.push(/^(\d{3})(?: |\r)/m.exec(text)?.[1] ?? text);
  }
  wire.socket.destroy();
  return got.join(' ');
}

describe.each(ODDITIES)('$program: $oddity', (oddity) => {
  test('at Postfix and here', async () => {
    const [there, here] = [await codes(postfix, oddity), await codes(hostPort(daemon.smtp[0]).port, oddity)];
    expect(here).toBe(oddity.postern);
    // Its releases choose other codes of the same kind.
    expect(there.replace(/\B\d/g, 'x')).toBe(oddity.postfix.replace(/\B\d/g, 'x'));
  });
});

test('docs/programs.md has these rows and no others', () => {
  const told = readFileSync(new URL('../docs/programs.md', import.meta.url), 'utf8');
  expect(told).toContain(programsTable());
  expect(told.match(/^\|/gm)?.length).toBe(ODDITIES.length + 2);
});
