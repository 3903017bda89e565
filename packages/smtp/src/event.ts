/** What couriers tell while they work; nothing depends on who listens. */
import type { EntryId, Extensions, Reply } from '@postern/core';
import type { DeliveryError } from './error.ts';

/** What a courier tells while it works, for logs and tests. Texts in replies are not escaped. */
export type CourierEvent =
  /** A channel is open; the greeting is awaited. */
  | { readonly type: 'open'; readonly session: number }
  /** EHLO is answered. */
  | { readonly type: 'ready'; readonly session: number; readonly extensions: Extensions; readonly dialogue: string }
  /** The server said 421; what it has not answered goes into another session. */
  | { readonly type: 'closing'; readonly session: number; readonly reply: Reply }
  /** The session has ended; `error` is absent after QUIT. `settled`: outcomes it brought. */
  | { readonly type: 'closed'; readonly session: number; readonly settled: number; readonly error?: unknown }
  /** An entry's message could not be read; the others go on. */
  | { readonly type: 'unreadable'; readonly id: EntryId; readonly error: DeliveryError };

/** A courier's `onEvent`; never throws. */
export type OnCourierEvent = (event: CourierEvent) => void;
