/** An outcome as a log line has it: the words of Postfix for what happened, and an enhanced status code for all. */
import { type EntryId, type ForwardPath, type Outcome, type ReversePath, replyText } from '@postern/core';
import { statusOf } from './dsn/dsn.ts';
import type { RunnerEvent } from './event.ts';

const STATUS = { delivered: 'sent', deferred: 'deferred', failed: 'bounced', uncertain: 'uncertain' } as const;

/** What is told of one recipient's outcome. `at` and `arrived` are wall clock, ms. */
export function outcomeEvent(o: {
  readonly id: EntryId;
  readonly from: ReversePath;
  readonly to: ForwardPath;
  readonly relay: string;
  readonly at: number;
  readonly arrived: number;
  readonly outcome: Outcome;
  /** It failed for lack of time. */
  readonly expired?: boolean;
}): RunnerEvent {
  const { id, from, to, relay, at, arrived, outcome, expired = false } = o;
  const reply = 'reply' in outcome ? outcome.reply : undefined;
  return {
    ...{ type: 'outcome', id, from, to, relay, outcome },
    delayMs: Math.max(0, at - arrived),
    dsn: statusOf(outcome, expired ? 'expired' : undefined),
    status: expired ? 'expired' : STATUS[outcome.type],
    text: reply === undefined ? ('reason' in outcome ? outcome.reason : 'no answer came') : replyText(reply),
  };
}
