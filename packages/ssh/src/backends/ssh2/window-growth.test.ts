import { virtualEnv } from '@postern/testkit';
import type { Client, ClientChannel } from 'ssh2';
import { describe, expect, test } from 'vitest';
import { growWindows } from './window.ts';

const MB = 1024 * 1024;

/** One channel as `growWindows` sees it; `receive` is a packet, `window` what the far side may have on its way or unread. */
function channelOver(o: { rttMs?: number | undefined; channelWindowBytes?: number; connectionWindowBytes?: number }) {
  const env = virtualEnv();
  const channel = {
    incoming: { state: 'open', window: 2 * MB },
    outgoing: { state: 'open', id: 0 },
    readableLength: 0,
    push: () => true,
  };
  const handlers: { CHANNEL_DATA?: (protocol: unknown, id: number, data: Buffer) => void } = {};
  const client = {
    _protocol: { _handlers: handlers, channelWindowAdjust: () => {} },
    _chanMgr: { get: () => channel },
  };
  const windows = growWindows(client as unknown as Client, {
    env,
    rttMs: () => o.rttMs,
    channelWindowBytes: o.channelWindowBytes ?? 32 * MB,
    connectionWindowBytes: o.connectionWindowBytes ?? 64 * MB,
  });
  return {
    env,
    channel,
    receive(bytes: number) {
      for (let left = bytes; left > 0; left -= 32_768) {
        handlers.CHANNEL_DATA?.(undefined, 0, Buffer.alloc(Math.min(left, 32_768)));
        windows.consumed(channel as unknown as ClientChannel);
      }
    },
    get windowMb() {
      return Math.round(channel.incoming.window / MB);
    },
  };
}

describe('a receive window', () => {
  test('grows fourfold as soon as half of it is used within a round trip, and to its bound', async () => {
    const over = channelOver({ rttMs: 200 });
    over.receive(0.9 * MB);
    expect(over.windowMb).toBe(2);
    over.receive(0.2 * MB);
    expect(over.windowMb).toBe(8);
    await over.env.advance(199);
    over.receive(3.5 * MB);
    expect(over.windowMb).toBeLessThanOrEqual(8);
    over.receive(0.6 * MB);
    expect(over.windowMb).toBe(32);
    over.receive(20 * MB);
    expect(over.windowMb).toBeLessThanOrEqual(32);
  });

  test.each([
    ['on a short line', 5],
    ['while the round trip is not known', undefined],
  ])('stays %s', (_name, rttMs) => {
    const over = channelOver({ rttMs });
    over.receive(30 * MB);
    expect(over.windowMb).toBeLessThanOrEqual(2);
  });

  test('stays on a slow line, however much comes in the end', async () => {
    const over = channelOver({ rttMs: 40 });
    for (let round = 0; round < 50; round++) {
      over.receive(0.9 * MB);
      await over.env.advance(40);
    }
    expect(over.windowMb).toBeLessThanOrEqual(2);
  });

  test('falls back when the reader does not keep up', () => {
    const over = channelOver({ rttMs: 200 });
    over.receive(1.1 * MB);
    expect(over.windowMb).toBe(8);
    over.channel.readableLength = 3 * MB;
    over.receive(7 * MB);
    expect(over.windowMb).toBeLessThanOrEqual(1);
  });

  test('takes what is left for all channels where a whole step is more than that', () => {
    const over = channelOver({ rttMs: 200, connectionWindowBytes: 3 * MB });
    over.receive(1.1 * MB);
    expect(over.windowMb).toBe(5);
  });
});
