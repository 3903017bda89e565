import type { Socket } from 'node:net';
import { systemEnv } from '@postern/core';
import { settle } from '@postern/testkit';
import { expect, test } from 'vitest';
import { readAll, streamError } from '../conformance.test-util.ts';
import { recordedLink, resolveRig, startSshRig } from '../rig.test-util.ts';

const signal = new AbortController().signal;
const FLAPS = Number(process.env.POSTERN_FLAPS ?? 500);

/** Destroys this process's sockets to a port, as a reset would. */
function cutSocketOf(port: number): void {
  const handles = (process as unknown as { _getActiveHandles(): unknown[] })._getActiveHandles();
  for (const handle of handles as Socket[]) if (handle.remotePort === port) handle.destroy(reset());
}

function reset(): Error {
  return Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' });
}

/** What keeps this process busy, by kind. */
async function resources(): Promise<string[]> {
  await settle();
  return process
    .getActiveResourcesInfo()
    .filter((name) => name !== 'Immediate')
    .sort();
}

test(`${FLAPS} flaps leave no timer, socket, channel or waiter behind`, { timeout: 300_000 }, async () => {
  await using rig = await startSshRig();
  const host = await resolveRig(rig);
  const before = await resources();
  const { link } = recordedLink(host, { env: { ...systemEnv, random: () => 0 } });
  for (let flap = 0; flap < FLAPS; flap++) {
    const channel = await link.open({ type: 'exec', command: 'cat' }, { signal });
    const failing = streamError(channel);
    // The far side's death looks the same from here as a reset socket; 500 killed sshds would take long.
    if (flap % 50 === 0) await rig.ssh.dropConnections();
    else cutSocketOf(rig.ssh.port);
    expect(await failing).toMatchObject({ code: 'lost' });
    expect(await channel.exit).toMatchObject({ type: 'lost' });
  }
  const last = await link.open({ type: 'exec', command: 'echo alive' }, { signal });
  expect((await readAll(last)).toString()).toBe('alive\n');
  await link.close();
  const left = await resources();
  for (const kind of before) if (left.includes(kind)) left.splice(left.indexOf(kind), 1);
  expect(left).toEqual([]);
});
