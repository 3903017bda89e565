import { LinkError } from '@postern/core';
import { type ChannelPair, settle, type VirtualEnv, virtualEnv } from '@postern/testkit';
import { afterEach, describe, expect, test } from 'vitest';
import { testClient } from './client.test-util.ts';
import type { ImapEvent } from './event.ts';
import { waitingLink } from './far.test-util.ts';
import { createImapd, type Imapd, type ImapdOptions } from './imapd.ts';
import { BURST_MEMORY_MS, MAX_SPARES, SPARE_LIFE_MS } from './limits.ts';

const GREETING = '* PREAUTH [CAPABILITY IMAP4rev1] hello\r\n';
const DOWN = new LinkError('gate does not answer', { code: 'unreachable', layer: 'tcp' });
const signal = new AbortController().signal;
const imapds: Imapd[] = [];
afterEach(async () => {
  for (const imapd of imapds.splice(0)) await imapd.close();
});

/** A far imapd that greets and answers every command; `pairs` in the order they were opened, `open` those still open. */
function setup(o: Partial<ImapdOptions> & { serve?: (pair: ChannelPair) => void } = {}): {
  env: VirtualEnv;
  link: ReturnType<typeof waitingLink> & { heardAt?: number | undefined };
  imapd: Imapd;
  pairs: ChannelPair[];
  open: Set<ChannelPair>;
  events: ImapEvent[];
} {
  const env = virtualEnv();
  const pairs: ChannelPair[] = [];
  const open = new Set<ChannelPair>();
  const events: ImapEvent[] = [];
  const link = waitingLink((_target, pair) => {
    pairs.push(pair);
    open.add(pair);
    void pair.channel.exit.then(() => open.delete(pair));
    (o.serve ?? serve)(pair);
  });
  const imapd = createImapd({ link, command: 'imapd', env, onEvent: (event) => events.push(event), ...o });
  imapds.push(imapd);
  return { env, link, imapd, pairs, open, events };
}

function serve(pair: ChannelPair): void {
  const far = testClient(pair.far);
  far.send(GREETING);
  const loop = async (): Promise<void> => {
    for (;;) far.send(`${(await far.line()).split(' ')[0]} OK done\r\n`);
  };
  loop().catch(() => pair.exit({ type: 'exit', code: 0 }));
}

describe('spares', () => {
  test('one is opened ahead, taken at login, and replaced a moment later', async () => {
    const { env, imapd, pairs } = setup();
    await settle();
    expect(imapd.status).toEqual({ spares: 1, opening: 0, wanted: 1 });
    const { spare, session } = await imapd.take({ signal });
    expect([spare, session.channel]).toEqual([true, pairs[0]?.channel]);
    await settle();
    expect(pairs.length).toBe(1);
    await env.advance(1000);
    expect([pairs.length, imapd.status.spares]).toEqual([2, 1]);
  });

  test('a login that finds none ready takes over the one being opened', async () => {
    const { imapd, pairs } = setup();
    const { spare } = await imapd.take({ signal });
    expect([spare, pairs.length]).toEqual([false, 1]);
  });

  test('none are kept with spare = 0, however many log in', async () => {
    const { env, imapd, pairs } = setup({ spare: 0 });
    for (let n = 0; n < 5; n++) await imapd.take({ signal });
    await env.advance(60_000);
    expect([pairs.length, imapd.status]).toEqual([5, { spares: 0, opening: 0, wanted: 0 }]);
  });

  test('one that has ended is never given, and is replaced', async () => {
    const { env, imapd, pairs } = setup();
    await settle();
    pairs[0]?.exit({ type: 'exit', code: 0 });
    await settle();
    const { session } = await imapd.take({ signal });
    expect(session.channel).not.toBe(pairs[0]?.channel);
    await env.advance(10_000);
    expect(imapd.status.spares).toBe(1);
  });

  test('one that said BYE is never given', async () => {
    const { imapd, pairs, events } = setup();
    await settle();
    pairs[0]?.far.write('* BYE idle for too long\r\n');
    await settle();
    expect(imapd.status.spares).toBe(0);
    expect(events).toContainEqual({ type: 'spare', host: 'gate', what: 'lost', reason: '* BYE idle for too long' });
  });

  test('what one said while it waited is kept for the client', async () => {
    const { imapd, pairs } = setup();
    await settle();
    pairs[0]?.far.write('* OK [ALERT] full\r\n');
    await settle();
    const { session } = await imapd.take({ signal });
    const client = testClient(session.channel.stream);
    session.channel.stream.resume();
    expect(await client.line()).toBe('* OK [ALERT] full');
  });

  test('one on a link that has been silent for longer than a keepalive is not trusted', async () => {
    const { env, imapd, link, pairs } = setup({ keepaliveMs: 5000 });
    await settle();
    link.heardAt = env.monotonicNow();
    await env.advance(7001);
    const { spare, session } = await imapd.take({ signal });
    expect([spare, session.channel]).toEqual([false, pairs[1]?.channel]);
    link.heardAt = env.monotonicNow();
    expect((await imapd.take({ signal })).spare).toBe(true);
  });

  test('one is replaced before the far side loses patience, and is there all the while', async () => {
    const { env, imapd, pairs, open } = setup();
    await settle();
    for (let minute = 0; minute < 26; minute++) {
      await env.advance(60_000);
      expect(imapd.status.spares).toBeGreaterThan(0);
    }
    expect(pairs.length).toBe(2);
    await env.advance(60_000);
    expect(open.size).toBe(1);
  });

  test('a far side with less patience is learnt', async () => {
    const { env, imapd, pairs } = setup();
    await settle();
    await env.advance(100_000);
    pairs[0]?.far.write('* BYE idle\r\n');
    await env.advance(10_000);
    const before = pairs.length;
    await env.advance(85_000);
    expect(pairs.length).toBe(before + 1);
    expect(imapd.status.spares).toBe(1);
    expect(SPARE_LIFE_MS).toBeGreaterThan(100_000);
  });

  test('they grow to what one client opens at once, and shrink when it has been long ago', async () => {
    const { env, imapd, open } = setup();
    await settle();
    const taken = await Promise.all(Array.from({ length: 5 }, () => imapd.take({ signal })));
    expect(taken.filter((it) => it.spare).length).toBe(1);
    await env.advance(1000);
    expect(imapd.status.spares).toBe(5);
    await env.advance(60_000);
    const again = await Promise.all(Array.from({ length: 5 }, () => imapd.take({ signal })));
    expect(again.every((it) => it.spare)).toBe(true);
    for (const { session } of [...taken, ...again]) session.channel.abort(new Error('gone'));
    await env.advance(BURST_MEMORY_MS + 10_000);
    expect(imapd.status).toEqual({ spares: 1, opening: 0, wanted: 1 });
    expect(open.size).toBe(1);
  });

  test('they have a bound, whatever clients do', async () => {
    const { env, imapd } = setup();
    await settle();
    await Promise.all(Array.from({ length: 40 }, () => imapd.take({ signal: new AbortController().signal })));
    await env.advance(2000);
    expect(imapd.status.spares).toBe(MAX_SPARES);
  });

  test('a far side that fails is asked ever less often', async () => {
    const { env, pairs, events } = setup({ serve: (pair) => pair.exit({ type: 'exit', code: 1 }) });
    await env.advance(10 * 60_000);
    expect(pairs.length).toBeGreaterThan(10);
    expect(pairs.length).toBeLessThan(30);
    expect(events.every((event) => event.type === 'spare' && event.what === 'failed')).toBe(true);
  });

  test('they go when the link is lost and come back with it', async () => {
    const { env, imapd, link } = setup();
    await settle();
    link.setState({ type: 'down', error: DOWN });
    await env.advance(60_000);
    expect(imapd.status).toEqual({ spares: 0, opening: 0, wanted: 1 });
    link.setState({ type: 'up' });
    await settle();
    expect(imapd.status.spares).toBe(1);
  });

  test('closing ends them in order, and nothing can be taken after', async () => {
    const { imapd, open } = setup();
    await settle();
    await imapd.close();
    expect(open.size).toBe(0);
    await expect(imapd.take({ signal })).rejects.toMatchObject({ code: 'closed' });
  });
});

describe('a session on demand', () => {
  test('survives one loss of the link under it', async () => {
    let first = true;
    const { imapd, pairs } = setup({
      spare: 0,
      serve: (pair) => {
        if (first) pair.lose();
        else serve(pair);
        first = false;
      },
    });
    await imapd.take({ signal });
    expect(pairs.length).toBe(2);
  });

  test('given up by its client is kept as a spare when one is wanted', async () => {
    const { env, imapd, link, open } = setup({ spare: 1 });
    link.setState({ type: 'down', error: DOWN });
    const gone = new AbortController();
    const taking = imapd.take({ signal: gone.signal });
    gone.abort(new Error('gone'));
    await expect(taking).rejects.toThrow('gone');
    link.setState({ type: 'up' });
    await env.advance(5000);
    expect(imapd.status).toMatchObject({ spares: 1, opening: 0 });
    expect(open.size).toBe(1);
  });
});
