/** What every backend gives: one connection, its channels, and one error when it is lost. */
import type { Channel, Env, LinkError, Target } from '@postern/core';
import type { AcceptedKey } from './auth/host-key.ts';
import type { DialStep } from './event.ts';
import type { ReverseAbility } from './forward/reverse.ts';
import type { ResolvedHost } from './host/resolved-host.ts';

/** One authenticated SSH connection. What a backend makes and a link keeps. */
export interface Connection {
  /**
   * Opens a channel. Rejects with the signal's reason, or a `LinkError`: `channel-refused`, `channel-limit` (MaxSessions; the
   * connection stays good), `timeout`, or the error the connection was lost by.
   */
  open(target: Target, o: { signal: AbortSignal }): Promise<Channel>;
  /** Has the far side listen; as {@link ReverseAbility}, but on this connection only. Absent where the backend cannot. */
  readonly listenRemote?: ReverseAbility['listenRemote'];
  /** Resolves once, when the connection is over, whoever ended it. Never rejects. */
  readonly closed: Promise<LinkError>;
  /** Channels now open that count against MaxSessions (exec and subsystem). */
  readonly sessions: number;
  /** All channels now open, or being opened. */
  readonly channels: number;
  /** Asks the far side for a sign of life; resolves with the round trip, ms. Rejects when the connection is lost first. */
  probe(): Promise<number>;
  /** The last round trip measured, ms. */
  readonly rttMs: number | undefined;
  /** When the last byte came from the far side, monotonic ms. */
  readonly heardAt?: number | undefined;
  /**
   * Ends the connection and its channels. `error` is what `closed` resolves with, default `aborted`. Resolves when its socket is
   * gone too. Idempotent.
   */
  end(error?: LinkError): Promise<void>;
}

/** What a dial needs beside the host. */
export interface DialOptions {
  readonly env: Env;
  /** Aborts the dial, at any stage. */
  readonly signal: AbortSignal;
  /** The link's name, for messages. */
  readonly link: string;
  /** Longest time from the first byte to an authenticated connection, ms. Default 20 s. */
  readonly handshakeTimeoutMs?: number;
  /** Longest wait for a channel to open, ms. Default 10 s. */
  readonly openTimeoutMs?: number;
  /** Lets the keys of unknown hosts pass and writes them down. Only for a person who asked for it. */
  readonly acceptNewHostKey?: boolean;
  readonly limits?: Partial<ConnectionLimits>;
  readonly onProgress?: (progress: DialProgress) => void;
}

/** Bounds of one connection. */
export interface ConnectionLimits {
  /** Largest receive window of a channel, bytes: it grows from 2 MiB on a long fast line, and this much may wait for a slow reader. Default 32 MiB. */
  readonly channelWindowBytes: number;
  /** What all channels together may have beyond 2 MiB each, bytes. Default 64 MiB. */
  readonly connectionWindowBytes: number;
  /** New keys are agreed on after this many bytes (RFC 4253 §9). Default 1 GiB. */
  readonly rekeyBytes: number;
  /** And after this time, ms. Default an hour. */
  readonly rekeyMs: number;
}

/** {@link ConnectionLimits} unless told otherwise. */
export const DEFAULT_LIMITS: ConnectionLimits = {
  channelWindowBytes: 32 * 1024 * 1024,
  connectionWindowBytes: 64 * 1024 * 1024,
  rekeyBytes: 1024 * 1024 * 1024,
  rekeyMs: 3_600_000,
};

/** News of a connection. `hop` names the jump host concerned. */
export type DialProgress =
  | { readonly type: 'passed'; readonly step: DialStep; readonly algorithm?: string; readonly hop?: string }
  | { readonly type: 'banner'; readonly text: string; readonly hop?: string }
  | { readonly type: 'rekeyed'; readonly hop?: string }
  | { readonly type: 'notice'; readonly text: string; readonly hop?: string }
  | { readonly type: 'accepted'; readonly key: AcceptedKey; readonly hop?: string };

/** Makes a connection. Rejects with a `LinkError`, or the signal's reason. */
export type Dial = (host: ResolvedHost, o: DialOptions) => Promise<Connection>;

export const DEFAULT_HANDSHAKE_TIMEOUT_MS = 20_000;
export const DEFAULT_OPEN_TIMEOUT_MS = 10_000;
