/** A receive window grows where half of it is used within a round trip, and never shrinks. */
import type { Env } from '@postern/core';
import type { Client, ClientChannel } from 'ssh2';
import { BASE_WINDOW_BYTES, type ChannelInternals, type Internals, internalsOf } from './internals.ts';
import type { ReadBuffer } from './read-buffer.ts';

/** How far receive windows may grow. */
export interface WindowOptions {
  readonly env: Env;
  /** The round trip of the connection, ms, once it is known. */
  readonly rttMs: () => number | undefined;
  /** Largest window of a channel, bytes: at most this much waits in memory for a slow reader. */
  readonly channelWindowBytes: number;
  /** What all channels of the connection may have beyond the 2 MiB each starts with, bytes. */
  readonly connectionWindowBytes: number;
  /** What the connection's socket reads into: channels are lent of it. */
  readonly reads?: ReadBuffer | undefined;
}

/** The windows of a connection. */
export interface Windows {
  /** The reader took something. */
  consumed(channel: ClientChannel): void;
  /** A channel has ended. */
  release(channel: ClientChannel): void;
}

/** A window as it is now. */
interface Window {
  bytes: number;
  /** Start of the present round trip, monotonic ms, and what has come in it. */
  since: number;
  received: number;
}

function startRound(window: Window, now: number): void {
  window.since = now;
  window.received = 0;
}

/** Refilled when this part of the window is used up: late refills cost half the rate on a long line. */
const REFILL_PART = 1 / 8;
/** A window that proves narrow grows by this factor: 32 MiB are reached within two round trips. */
const GROWTH = 4;
/** On a shorter round trip 2 MiB carry 200 MB/s, and a larger window would only wait in somebody's buffer, ms. */
const LONG_LINE_MS = 10;

/**
 * Replaces the fixed 2 MiB window of ssh2 1.17.0 (10 MB/s at most over 200 ms) by one that grows fourfold as soon as half
 * of it is used within a round trip, as long as the reader keeps up. What waits to be read counts as used, so a slow reader holds the far side back.
 */
export function growWindows(client: Client, o: WindowOptions): Windows {
  return new GrowingWindows(client, o);
}

class GrowingWindows implements Windows {
  readonly #o: WindowOptions;
  readonly #protocol: Internals['_protocol'];
  readonly #windows = new Map<ChannelInternals, Window>();
  /** What all windows have beyond what each starts with, bytes. */
  #lent = 0;

  constructor(client: Client, o: WindowOptions) {
    const { _protocol: protocol, _chanMgr: channels } = internalsOf(client);
    this.#o = o;
    this.#protocol = protocol;
    protocol._handlers.CHANNEL_DATA = (_protocol, id, data) => {
      const channel = channels.get(id);
      if (typeof channel !== 'object' || channel === null || channel.incoming.window === 0) return;
      channel.incoming.window -= data.length;
      const window = this.#windowOf(channel);
      o.reads?.lend(data);
      channel.push(data);
      this.#judge(channel, window, data.length);
      this.#refill(channel, window);
    };
  }

  consumed(raw: ClientChannel): void {
    const channel = raw as unknown as ChannelInternals;
    const window = this.#windows.get(channel);
    if (window !== undefined) this.#refill(channel, window);
  }

  release(raw: ClientChannel): void {
    const channel = raw as unknown as ChannelInternals;
    const window = this.#windows.get(channel);
    if (window !== undefined) this.#resize(window, BASE_WINDOW_BYTES);
    this.#windows.delete(channel);
  }

  #windowOf(channel: ChannelInternals): Window {
    let window = this.#windows.get(channel);
    if (window === undefined) {
      window = { bytes: BASE_WINDOW_BYTES, since: this.#o.env.monotonicNow(), received: 0 };
      this.#windows.set(channel, window);
    }
    return window;
  }

  #resize(window: Window, bytes: number): void {
    this.#lent += bytes - window.bytes;
    window.bytes = bytes;
  }

  #judge(channel: ChannelInternals, window: Window, bytes: number): void {
    if (channel.readableLength > window.bytes / 4) return void this.#resize(window, BASE_WINDOW_BYTES);
    const rttMs = this.#o.rttMs() ?? 0;
    if (rttMs < LONG_LINE_MS) return;
    const now = this.#o.env.monotonicNow();
    if (now - window.since >= rttMs) startRound(window, now);
    window.received += bytes;
    if (window.received < window.bytes / 2) return;
    startRound(window, now);
    const unlent = this.#o.connectionWindowBytes - this.#lent;
    const grown = Math.min(window.bytes * GROWTH, this.#o.channelWindowBytes, window.bytes + unlent);
    if (grown > window.bytes) this.#resize(window, grown);
  }

  #refill(channel: ChannelInternals, window: Window): void {
    const bytes = window.bytes - channel.incoming.window - channel.readableLength;
    if (channel.outgoing.state === 'closed' || bytes < window.bytes * REFILL_PART) return;
    channel.incoming.window += bytes;
    this.#protocol.channelWindowAdjust(channel.outgoing.id, bytes);
  }
}
