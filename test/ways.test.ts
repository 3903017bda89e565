import { randomBytes } from 'node:crypto';
import { type Gate, readMaildir } from '@postern/gate';
import { startRig } from '@postern/testkit/rig';
import { createTransport } from 'nodemailer';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hostPort, makePlace, type Place, postern, up } from './support/postern.ts';

/** Every way mail can take into a host, and both backends, through the daemon to the real Exim. */
let gate: Gate;
beforeAll(async () => {
  gate = await startRig({ smtp: { refuse: { nobody: '5.1.1 No such user here' } } });
});
afterAll(() => gate?.stop());

const ME = 'gate@gate.test';

async function send(smtp: string | undefined, o: { subject: string; to: string[]; text: string }): Promise<void> {
  const transport = createTransport({ ...hostPort(smtp), secure: false, ignoreTLS: true });
  await transport.sendMail({ from: ME, ...o });
}
const texts = async (): Promise<string[]> => (await readMaildir(gate.maildir)).map(String);
async function arrived(mark: string): Promise<string> {
  // By the header: a bounce quotes the message it is about.
  const found = async (): Promise<string[]> =>
    (await texts()).filter((text) => text.split(/\r?\n\r?\n/)[0]?.includes(mark));
  await expect.poll(async () => (await found()).length, { timeout: 30_000 }).toBe(1);
  return (await found())[0] ?? '';
}
const table = (host: string, route: string): string => `
[host.gate]
${host}
[[imap]]
listen = ["127.0.0.1:0"]
host = "gate"
spare = 0
[smtp]
listen = ["127.0.0.1:0"]
[[route]]
match = ["*"]
host = "gate"
${route}
`;
const queueEnds = (place: Place): Promise<void> =>
  expect
    .poll(async () => JSON.parse((await postern(place, ['queue', 'list', '--json'])).stdout), { timeout: 30_000 })
    .toEqual([]);

describe('the system ssh as backend', () => {
  test('check, IMAP and mail go through it', async () => {
    const place = await makePlace(gate, table('backend = "openssh"', ''), 'openssh');
    const checked = await postern(place, ['check', 'gate', '--json']);
    expect(checked, checked.stdout + checked.stderr).toMatchObject({ code: 0 });
    await using daemon = await up(place);
    const text = randomBytes(60_000).toString('hex').replace(/.{70}/g, '$&\n');
    await send(daemon.smtp[0], { subject: 'by-openssh', to: [ME, 'nobody@gate.test'], text });
    expect(await arrived('by-openssh')).toContain(text.slice(0, 5000));
    await queueEnds(place);
    const status = JSON.parse((await postern(place, ['status', '--json'])).stdout);
    expect(status.hosts[0]).toMatchObject({ host: 'gate', state: 'up' });
  });
});

describe('ways into a host', () => {
  const cases: [name: string, host: string, route: string, warns: RegExp | undefined][] = [
    ['bsmtp toward a server', '', 'dialogue = "bsmtp"', /dialogue = "bsmtp"/],
    ['a batch reader', 'smtp = "sendmail -bS"', '', /answers nothing/],
    ['sendmail -i', 'smtp = "sendmail -i"', '', /answers nothing/],
    ['sendmail -bs', 'smtp = "sendmail -bs"', '', undefined],
  ];
  test.each(cases)('%s delivers, and check says what to know of it', async (name, host, route, warns) => {
    const mark = name.replaceAll(/[^a-zA-Z]+/g, '-');
    const place = await makePlace(gate, table(host, route), mark);
    const checked = await postern(place, ['check', 'gate', '--json']);
    expect(checked, checked.stdout + checked.stderr).toMatchObject({ code: 0 });
    const warnings: string[] = JSON.parse(checked.stdout)[0].layers.at(-1).warnings;
    if (warns === undefined) expect(warnings).toEqual([]);
    else expect(warnings.join()).toMatch(warns);
    await using daemon = await up(place);
    await send(daemon.smtp[0], { subject: mark, to: [ME], text: 'one\n.\ntwo\n' });
    expect(await arrived(mark)).toContain('one\n.\ntwo\n');
    await queueEnds(place);
  });
});
