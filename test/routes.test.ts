import { readFile, writeFile } from 'node:fs/promises';
import { type Gate, readMaildir } from '@postern/gate';
import { startRig } from '@postern/testkit/rig';
import { createTransport } from 'nodemailer';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hostPort, makePlace, type Place, postern, type Ran, type Up, up } from './support/postern.ts';

/** Routes of a running relay, to two gates with an sshd and an Exim each. */
const LONGEST_WAIT = { timeout: 60_000 };
let one: Gate;
let two: Gate;
let hosts: string;

beforeAll(async () => {
  const rig = { imapd: false, smtp: { domains: ['*'] } } as const;
  [one, two] = await Promise.all([startRig(rig), startRig(rig)]);
  const host = (name: string, gate: Gate): string =>
    `[host.${name}]\ndestination = "${gate.account.user}@127.0.0.1:${gate.ssh.port}"\nidentity = ["${gate.client.identityFile}"]\nknown_hosts = ["${gate.client.knownHostsFile}"]\n`;
  hosts = `${host('one', one)}${host('two', two)}[smtp]\nlisten = ["127.0.0.1:0"]\n`;
});

afterAll(async () => {
  await one?.stop();
  await two?.stop();
});

const route = (match: readonly string[], host: string, more = ''): string =>
  `[[route]]\nmatch = ${JSON.stringify(match)}\nhost = "${host}"\n${more}`;

async function send(daemon: Up, subject: string, to: readonly string[], from = 'me@work.test'): Promise<void> {
  const transport = createTransport({ ...hostPort(daemon.smtp[0]), ignoreTLS: true });
  await transport.sendMail({ from, to: [...to], subject, text: 'routed\n' });
  transport.close();
}

/** To whom Exim delivered the message here: one copy in the Maildir for each. */
async function arrivedFor(gate: Gate, subject: string): Promise<string[]> {
  const texts = (await readMaildir(gate.maildir)).map((bytes) => bytes.toString('latin1'));
  return texts
    .filter((text) => text.includes(`Subject: ${subject}`))
    .map((text) => /^Envelope-to: (.*)$/m.exec(text)?.[1] ?? '')
    .sort();
}

interface Listed {
  readonly state: string;
  readonly reason: string | null;
  readonly recipients: readonly { address: string; route: string | null; host: string | null }[];
}
async function queue(place: Place): Promise<Listed[]> {
  const ran = await postern(place, ['queue', 'list', '--json']);
  expect(ran, ran.stderr).toMatchObject({ code: 0 });
  return JSON.parse(ran.stdout);
}
const queueEnds = (place: Place): Promise<void> => expect.poll(() => queue(place), LONGEST_WAIT).toEqual([]);

const explain = (place: Place, ...to: string[]): Promise<Ran> => postern(place, ['route', '--json', ...to]);

/** Puts other routes in place of those the file has, and has the daemon read them. */
async function reroute(place: Place, daemon: Up, routes: string): Promise<void> {
  const text = await readFile(place.config, 'utf8');
  await writeFile(place.config, `${text.slice(0, text.indexOf('[[route]]'))}${routes}`);
  const seen = daemon.log().length;
  daemon.child.kill('SIGHUP');
  await expect.poll(() => daemon.log().slice(seen), LONGEST_WAIT).toMatch(/SIGHUP: reloaded/);
}

describe('a message for several gates', () => {
  test('is split by route, and each recipient gets it once', async () => {
    const recipe = route(['^t-online\\.(de|at|com)$', 't-dialin.net'], 'one');
    const idn = route(['bücher.test', 'xn--mnchen-3ya.test'], 'two');
    const boss = route(['rest.test'], 'one', 'from = ["boss@*"]\n');
    const place = await makePlace(one, `${hosts}${recipe}${idn}${boss}${route(['rest.test'], 'two')}`, 'split');
    await using daemon = await up(place, []);
    const toOne = ['A@t-online.at', 'a@t-dialin.net', 'a@t-online.at', 'b@t-online.com'];
    const toTwo = ['c@rest.test', 'd@xn--bcher-kva.test', 'e@xn--mnchen-3ya.test'];
    const given = ['c@rest.test', 'd@bücher.test', 'e@münchen.test'];
    await send(daemon, 'mixed', [...toOne, ...given]);
    await send(daemon, 'by the boss', ['c@rest.test'], 'boss@work.test');
    await expect.poll(() => arrivedFor(one, 'mixed'), LONGEST_WAIT).toEqual(toOne);
    await expect.poll(() => arrivedFor(two, 'mixed'), LONGEST_WAIT).toEqual(toTwo);
    await expect.poll(() => arrivedFor(one, 'by the boss'), LONGEST_WAIT).toEqual(['c@rest.test']);
    await queueEnds(place);
    expect(await arrivedFor(two, 'by the boss')).toEqual([]);
    await expect(send(daemon, 'nowhere', ['a@t-online.ch'])).rejects.toThrow(/550 5\.7\.1/);
  });

  test('`postern route` says which takes each, and why', async () => {
    const place = await makePlace(one, `${hosts}${route(['^t-online\\.(de|at|com)$', 't-dialin.net'], 'one')}`, 'why');
    const ran = await explain(place, 'a@T-Online.DE', 'a@t-dialin.net', 'a@p1.t-dialin.net', 'a@xt-online.de');
    expect(ran.stdout).toMatch(/"\^t-online/);
    const answers = JSON.parse(ran.stdout) as { address: string; host: string | null }[];
    expect(answers.map(({ host }) => host ?? null)).toEqual(['one', 'one', null, null]);
  });

  test('with one gate away, the others get theirs at once, and the rest follows', async () => {
    const place = await makePlace(one, `${hosts}${route(['one.test'], 'one')}${route(['two.test'], 'two')}`, 'half');
    await one.ssh.stop();
    await using daemon = await up(place, []);
    await send(daemon, 'half of it', ['a@one.test', 'a@two.test']);
    await expect.poll(() => arrivedFor(two, 'half of it'), LONGEST_WAIT).toEqual(['a@two.test']);
    expect(await queue(place)).toMatchObject([{ recipients: [{ address: 'a@one.test' }, { address: 'a@two.test' }] }]);
    await one.ssh.start();
    await postern(place, ['queue', 'flush']);
    await queueEnds(place);
    await expect.poll(() => arrivedFor(one, 'half of it'), LONGEST_WAIT).toEqual(['a@one.test']);
    expect(await arrivedFor(two, 'half of it')).toEqual(['a@two.test']);
  });
});

describe('a changed configuration', () => {
  test('moves what is queued; a lost route holds it and says so, and its return sends it', async () => {
    const place = await makePlace(one, `${hosts}${route(['*'], 'one')}`, 'moved');
    await one.ssh.stop();
    await using daemon = await up(place, []);
    await send(daemon, 'moved', ['a@moved.test']);
    await send(daemon, 'lost', ['a@lost.test']);
    await daemon.logged(/link down/);
    expect((await queue(place)).map(({ recipients }) => recipients[0]?.host)).toEqual(['one', 'one']);
    await reroute(place, daemon, route(['moved.test'], 'two'));
    await expect.poll(() => arrivedFor(two, 'moved'), LONGEST_WAIT).toEqual(['a@moved.test']);
    await expect.poll(async () => (await queue(place)).length, LONGEST_WAIT).toBe(1);
    await expect
      .poll(() => queue(place), LONGEST_WAIT)
      .toMatchObject([{ reason: expect.stringMatching(/no route/i), recipients: [{ route: null, host: null }] }]);
    const shown = await postern(place, ['queue', 'list']);
    expect(shown.stdout).toMatch(/no route/i);
    await reroute(place, daemon, route(['*'], 'two'));
    await expect.poll(() => arrivedFor(two, 'lost'), LONGEST_WAIT).toEqual(['a@lost.test']);
    await queueEnds(place);
    await one.ssh.start();
    expect(await arrivedFor(one, 'moved')).toEqual([]);
  });
});

describe('a regular expression that could blow up', () => {
  test.each(['/^(a)\\1$/', '/a(?=b)/', '^(?<!x)t-online'])('%s is refused, with its place', async (pattern) => {
    const place = await makePlace(one, `${hosts}${route([pattern], 'one')}`, 'refused');
    const ran = await postern(place, ['up']);
    expect(ran.code).toBe(78);
    expect(ran.stderr).toMatch(/config\.toml:\d+: route\[0\]\.match\[0\]: .*linear/);
  });

  test('or takes linear time', async () => {
    const place = await makePlace(one, `${hosts}${route(['/^(a+)+$/', '/^((a|aa)+)+c$/'], 'one')}`, 'linear');
    const domain = `${Array(4).fill('a'.repeat(60)).join('.')}.b`;
    const ran = await explain(place, `x@${domain}`);
    expect(ran.stdout, ran.stderr).toMatch(/does not match/);
  });
});
