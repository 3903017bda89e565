/**
 * One message of the queue, and what a courier tells of it: nothing is delivered unless it was recorded as attempted
 * before its last byte left.
 */
import type { Brand } from './brand.ts';
import type { Env } from './env.ts';
import type { Envelope, ForwardPath } from './envelope.ts';
import type { Outcome } from './outcome.ts';

/** Name of a spool entry: 15 characters of `0-9a-v`, sorts by time of arrival, safe in file names and on command lines. */
export type EntryId = Brand<string, 'EntryId'>;

const ID_PATTERN = /^[0-9a-v]{15}$/;
const TIME_DIGITS = 9;
const RANDOM_DIGITS = 6;

/** A fresh name: the wall clock in milliseconds, then 30 random bits, in base 32. Not a secret. */
export function newEntryId(env: Pick<Env, 'wallNow' | 'random'>): EntryId {
  const time = Math.max(0, Math.floor(env.wallNow())).toString(32).padStart(TIME_DIGITS, '0').slice(-TIME_DIGITS);
  const random = Math.floor(env.random() * 32 ** RANDOM_DIGITS)
    .toString(32)
    .padStart(RANDOM_DIGITS, '0');
  return (time + random) as EntryId;
}

/** The wall clock in milliseconds at which a name was made. */
export function entryTime(id: EntryId): number {
  return Number.parseInt(id.slice(0, TIME_DIGITS), 32);
}

/** True for what {@link newEntryId} could have made. */
export function isEntryId(text: string): text is EntryId {
  return ID_PATTERN.test(text);
}

/** An earlier attempt whose outcome is not known for some recipients. */
export interface Unresolved {
  readonly receipt: string;
  readonly recipients: readonly ForwardPath[];
}

/** One message to be delivered: an envelope whose recipients all go the same way, and its bytes. */
export interface Entry {
  readonly id: EntryId;
  /** Only the recipients to try now. */
  readonly envelope: Envelope;
  /** Octets of the message on the wire: CRLF line ends, no dot-stuffing, ends in CRLF unless its last line has none. */
  readonly size: number;
  /** Earlier attempts a courier that keeps receipts resolves before it sends again. */
  readonly unresolved: readonly Unresolved[];
  /** Those of them to send to only when it is proven that nothing was accepted; else they are reported uncertain, and not sent. */
  readonly needsProof?: ReadonlySet<ForwardPath>;
  /** The message's bytes, from the start; may be called more than once. Errors when the stored bytes are damaged. */
  open(): AsyncIterable<Uint8Array>;
}

/**
 * What an attempt waits for: `channel`, one to be opened; `receipt`, the far side's word on an earlier attempt; `turn`, messages before it in the session; `room`, the far side to
 * take more octets; `exit`, the end of a command that answers nothing; each other word, the reply to that command (`final`: to the end of data).
 */
export type WaitingFor =
  | 'channel'
  | 'receipt'
  | 'turn'
  | 'room'
  | 'exit'
  | 'greeting'
  | 'hello'
  | 'starttls'
  | 'auth'
  | 'reset'
  | 'mail'
  | 'rcpt'
  | 'data'
  | 'final'
  | 'noop'
  | 'quit';

/** What an attempt waits for now, and for how long no octet has moved, ms. */
export interface Wait {
  readonly for: WaitingFor;
  readonly ms: number;
}

/** What a courier reports while it works. Every call is awaited before the courier goes on with that entry. */
export interface CourierReport {
  /** Aborts: finish or drop the transaction at hand, report, settle. */
  readonly signal: AbortSignal;
  /** Before the entry's last byte leaves; durable when it resolves. `receipt` names what may prove the outcome later. */
  attempting(id: EntryId, o: { receipt?: string }): Promise<void>;
  /** An earlier attempt, uncertain until now, is proven not to have been accepted for this recipient; the entry is sent again now. */
  notAccepted?(id: EntryId, to: ForwardPath): Promise<void>;
  /** From now on `look` tells what an entry that was pulled waits for; undefined when it does not, or nothing is known. For people: nothing depends on it. */
  waits?(look: (id: EntryId) => Wait | undefined): void;
  /** Once per recipient of every entry for which `attempting` was called. */
  outcome(id: EntryId, to: ForwardPath, outcome: Outcome): Promise<void>;
}

/**
 * Delivers entries over one session or more. Pulls from `batch` as fast as the dialogue goes; resolves when it is exhausted and
 * every outcome is reported. Rejects with `LinkError` (or a delivery error) when there is no session: entries pulled but never
 * reported by `attempting` were not sent.
 */
export type Courier = (batch: AsyncIterable<Entry>, o: CourierReport) => Promise<void>;
