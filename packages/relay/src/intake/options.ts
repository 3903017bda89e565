/** What an intake is given, and its limits. */
import type { Server } from 'node:net';
import type { Admit, Direct, Env, SpoolWriter } from '@postern/core';
import type { OnRelayEvent } from '../event.ts';
import type { CompiledRoutes, Route } from '../route/routes.ts';
import type { IntakeTls } from './smtp-session.ts';

/** Largest message when nothing else is said, octets. */
export const SIZE_LIMIT: number = 100 * 1024 * 1024;
/** Recipients of one message (RFC 5321 §4.5.3.1.8 wants 100 at least); 452 4.5.3 after. */
export const MAX_RECIPIENTS = 10_000;
/** Sessions at once; 421 after. */
export const MAX_SESSIONS = 1024;
/** Silence of a client after which its session ends (RFC 5321 §4.5.3.2.7), milliseconds. */
export const CLIENT_TIMEOUT_MS: number = 5 * 60_000;

/**
 * What becomes of a message with lines over 998 octets (RFC 5321 §4.5.3.1.6): it leaves encoded, as it is, or is refused with 554. One that passes straight
 * through is not encoded.
 */
export type LongLines = 'encode' | 'keep' | 'refuse';

/** Options of an intake. */
export interface IntakeOptions {
  /** Where clients come from; made with `allowHalfOpen`. The caller makes it listen and closes it. */
  readonly server: Server;
  readonly spool: SpoolWriter;
  /** The routes as they are now; asked at every RCPT. */
  readonly routes: () => CompiledRoutes;
  readonly admit: Admit;
  /** Our name in the greeting, `Received:` and Message-ID. */
  readonly hostname: string;
  /** Octets; {@link SIZE_LIMIT} when absent. */
  readonly sizeLimit?: number;
  /** `encode` when absent. */
  readonly longLines?: LongLines;
  /** What passes mail of routes with `queue: false` straight through; undefined, or no function, where nothing does. */
  readonly directFor?: (route: Route) => Direct | undefined;
  /** Asked for by a client's ETRN (RFC 1985), which is offered with it. */
  readonly onQueueRun?: () => void;
  /** Absent: in plain. With `starttls` nothing that matters is taken before it. */
  readonly tls?: IntakeTls;
  readonly env: Env;
  readonly onEvent?: OnRelayEvent;
}
