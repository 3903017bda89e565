/** The courier of a host: it speaks over channels of one link, and opens none before there is something to send. */
import { type Courier, type Dialogue, type Env, type Link, STREAM_WINDOW, type Target } from '@postern/core';
import { createCommandCourier } from './commands.ts';
import type { OnCourierEvent } from './event.ts';
import { type MailProtocol, protocolOf } from './protocol.ts';
import { newReceiptName, receiptCommand } from './receipt.ts';
import { Resolver } from './resolve.ts';
import { createSessions } from './sessions.ts';

/** What {@link createCourier} needs. */
export interface CourierOptions {
  readonly link: Link;
  /**
   * What speaks SMTP on its standard input and output, or at its socket; a Unix socket is spoken to in LMTP (RFC 2033). Commands that answer nothing are
   * known by name: `exim -bS`, `rsmtp`, `sendmail -i`.
   */
  readonly target: Target;
  /** `auto` when absent. */
  readonly dialogue?: Dialogue;
  /** The name for EHLO: a domain or an address literal. */
  readonly helo: string;
  readonly env: Env;
  /** Messages unanswered at most while streaming; when absent, 25 where receipts work and 5 elsewhere. */
  readonly window?: number;
  /** How mail goes into the target; told by its name when absent. */
  readonly protocol?: MailProtocol;
  /**
   * Let far commands keep receipts of their replies, which tell what became of a message when the link was lost. True when absent; where the far
   * side refuses the command that keeps them (a forced command, an allow-list), mail goes there without, at once.
   */
  readonly receipts?: boolean;
  readonly onEvent?: OnCourierEvent;
}

/** Messages unanswered at most where no receipt is kept. */
export const WINDOW_WITHOUT_RECEIPT = 5;

/**
 * Makes a courier that delivers over channels of `link`. Does no I/O itself; each call opens its own session, and another when
 * the far side ends one that had brought outcomes. Rejects with `LinkError` or {@link DeliveryError} when there is no session.
 */
export function createCourier(o: CourierOptions): Courier {
  const { link, target, env, helo } = o;
  const protocol = o.protocol ?? protocolOf(target);
  if (protocol === 'bsmtp' || protocol === 'submit') {
    if (target.type !== 'exec') throw new RangeError(`${protocol} needs a command`);
    return createCommandCourier({ link, target, helo, env, protocol });
  }
  const dialogue = o.dialogue ?? 'auto';
  const wanted = o.receipts !== false && protocol === 'smtp' && target.type === 'exec' && dialogue !== 'bsmtp';
  let refused = false;
  const windows = { receipt: o.window ?? STREAM_WINDOW, none: o.window ?? WINDOW_WITHOUT_RECEIPT };
  return async (batch, report) => {
    const resolver = new Resolver(link, report);
    const courier = createSessions({
      ...{ env, windows, onEvent: o.onEvent ?? ((): void => {}), skipNoise: target.type === 'exec' },
      open: ({ signal, receipt }) => link.open(receipt === undefined ? target : wrap(target, receipt), { signal }),
      client: async () => ({ helo, dialogue, protocol, window: windows.receipt }),
      receiptName: () => (wanted && !refused ? newReceiptName() : undefined),
      receiptRefused(told) {
        refused = told;
      },
      prepare: (entry) => resolver.prepare(entry),
    });
    await courier(batch, report).finally(() => void resolver.forget().catch(() => {}));
  };
}

function wrap(target: Target, name: string): Target {
  return target.type === 'exec' ? { type: 'exec', command: receiptCommand(target.command, name) } : target;
}
