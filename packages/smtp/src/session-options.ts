/** What one session needs, and the times it keeps. */
import type { Duplex } from 'node:stream';
import type { AwaitedCommand, Channel, ClientOptions, CourierReport, EntryId, Env, Wait } from '@postern/core';
import type { OnCourierEvent } from './event.ts';
import type { JobSource } from './jobs.ts';

/** How long a reply may take, by what it answers (RFC 5321 §4.5.3.2), milliseconds since the last byte moved either way. */
export const REPLY_TIMEOUT_MS: Readonly<Record<AwaitedCommand, number>> = {
  greeting: 300_000,
  hello: 300_000,
  starttls: 120_000,
  auth: 120_000,
  reset: 300_000,
  mail: 300_000,
  rcpt: 300_000,
  data: 120_000,
  final: 600_000,
  noop: 300_000,
  quit: 5_000,
};
/** How long what has said something that is no greeting may go on without one: it is no SMTP server, or a shell that hangs. */
export const STRANGER_MS = 10_000;
/**
 * After so much silence NOOP is written behind a message: Debian's nc.openbsd stays when its server has closed, and ends at the next octet it cannot
 * pass on.
 */
export const PROBE_MS = 20_000;
/** How long the far side may take no byte at all (RFC 5321 §4.5.3.2.5). */
export const BLOCKED_TIMEOUT_MS = 180_000;
/** After 421, and after the signal aborts: how long replies under way are still read. */
export const LINGER_MS = 3_000;

/**
 * Messages unanswered at most at first; each that is taken allows {@link WINDOW_STEP} more. Three refused ones cost up to nine errors, and Postfix 3.7
 * sleeps before each reply after ten.
 */
export const WINDOW_START = 3;
/** See {@link WINDOW_START}. */
export const WINDOW_STEP = 3;

/** Runs the TLS handshake over a plain stream; rejects with what is wrong. */
export type Upgrade = (stream: Duplex, signal: AbortSignal) => Promise<Duplex>;

/** What an entry waits for, asked at any moment; undefined when it does not, or nothing is known. */
export type Look = (id: EntryId) => Wait | undefined;

/** What one session needs. */
export interface SessionOptions {
  readonly channel: Channel;
  readonly number: number;
  readonly client: ClientOptions;
  /** Skip what a login shell prints before the greeting. */
  readonly skipNoise: boolean;
  /** The receipt that the far command keeps if it can; it says so on stderr. */
  readonly receipt: string | undefined;
  /** Messages unanswered at most, with a receipt and without one. */
  readonly windows: { readonly receipt: number; readonly none: number };
  readonly upgrade: Upgrade | undefined;
  readonly source: JobSource;
  readonly report: CourierReport;
  readonly env: Env;
  readonly onEvent: OnCourierEvent;
  /** `look` tells what an entry waits for while the session lasts. */
  readonly waits: (look: Look) => void;
}

/** How a session ended; never a rejection. */
export interface SessionResult {
  /** Absent after QUIT. */
  readonly error?: unknown;
  /** Outcomes reported. */
  readonly settled: number;
  /** The far side ran the wrapper that keeps receipts. */
  readonly wrapped: boolean;
}
