/**
 * What the rooms of the queue hand each other, types only. A job knows its destination, and there is one desk for what
 * couriers say: nobody in between passes anything on.
 */
import type { Entry, EntryId, ForwardPath, Outcome, ReversePath } from '@postern/core';

/** One entry's place at a destination. */
export interface Item {
  readonly id: EntryId;
  /** Monotonic ms at which it is due; 0: now. */
  due: number;
  /** A courier has it. */
  busy: boolean;
  /** Charged deferrals since it came here. */
  deferrals: number;
  /**
   * The destination's uptime, whole ms, at which its queue life began; negative when that was before the destination.
   */
  readonly queuedAtUptime: number;
}

/** Where entries wait for one host, as those see it who judge what came of them. */
export interface Destination {
  /** Equal for routes that lead to the same place. */
  readonly key: string;
  /** The host's name. */
  readonly host: string;
  /** How often the host became unreachable. */
  readonly outages: number;
  /** What waits here, or is out. */
  readonly items: ReadonlyMap<EntryId, Item>;
  /** Queue life of an item, ms. */
  elapsed(item: Item): number;
  /** The link was lost since the job was last attempted: what came of it is not its fault. */
  linkLost(job: Job): boolean;
  /** It has not been dropped. */
  has(item: Item): boolean;
  drop(item: Item): void;
  /**
   * Puts an item back: due after `waitMs`, or at the end of what is ready. It is looked at when the delivery that had
   * it ends.
   */
  putBack(item: Item, waitMs: number): void;
  /** Puts an item back, and starts what can start. */
  retry(item: Item, waitMs: number): void;
}

/** One pull of an entry by a courier. */
export interface Job {
  readonly item: Item;
  readonly destination: Destination;
  readonly entry: Entry;
  /** Those it is for. */
  readonly recipients: ReadonlySet<ForwardPath>;
  /** Number of the attempt, from 1. */
  n: number;
  attempted: boolean;
  /** Those of the recipients that are sent to only with proof that nothing was accepted before. */
  readonly needsProof: ReadonlySet<ForwardPath>;
  /** Outages of the destination when it was pulled, or last attempted. */
  outages: number;
  /** The link was lost before all outcomes came. */
  linkLost: boolean;
  readonly outcomes: Map<ForwardPath, Outcome>;
  /** Outcomes being recorded. */
  readonly records: Promise<void>[];
  /** Of the message. */
  readonly from: ReversePath;
  readonly arrived: number;
  /** Set when every recipient has its outcome. */
  finished: boolean;
}

/** Gives out jobs, and makes durable what is reported of them; core's `CourierReport` says when each is called. */
export interface AttemptDesk {
  /** The job for an item, or undefined when there is nothing to try now. */
  prepare(destination: Destination, item: Item): Job | undefined;
  attempting(job: Job, receipt: string | undefined): Promise<void>;
  notAccepted(job: Job, to: ForwardPath): Promise<void>;
  outcome(job: Job, to: ForwardPath, outcome: Outcome): Promise<void>;
  /**
   * The courier gave a job back undone, `reason` why; `waitMs` until it is due, undefined when that depends on the
   * link.
   */
  unsent(job: Job, o: { reason: string; waitMs: number | undefined }): Promise<void>;
  /** Every session with the host fails: looks for what has become too old while it waits. */
  sweepOld(destination: Destination): void;
}
