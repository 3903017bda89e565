/** What `status` tells of receipts that lie over there: asked for when somebody looks, over a link that is up, and not again for a while. */
import { deadline, type Env } from '@postern/core';
import { findLeftReceipts, type LeftReceipts, protocolOf } from '@postern/smtp';
import type { Host } from './hosts.ts';

/** How long an answer holds, ms: `status --watch` asks every two seconds. */
const HOLDS_MS = 600_000;
/** How long an answer is waited for, ms. */
const WAIT_MS = 2_000;

/** What was last seen at each host. */
export class ReceiptsSeen {
  readonly #env: Env;
  readonly #seen = new WeakMap<Host, { readonly at: number; readonly left: LeftReceipts | undefined }>();

  constructor(env: Env) {
    this.#env = env;
  }

  /** What lies at a host; undefined where none are kept, and while nothing is known. Never rejects. */
  async at(host: Host): Promise<LeftReceipts | undefined> {
    const seen = this.#seen.get(host);
    const now = this.#env.monotonicNow();
    if (seen !== undefined && now - seen.at < HOLDS_MS) return seen.left;
    if (!keepsReceipts(host) || host.link.state.type !== 'up') return seen?.left;
    // Noted before it is asked for: whoever looks meanwhile asks for no other channel.
    this.#seen.set(host, { at: now, left: seen?.left });
    using limit = deadline(this.#env, WAIT_MS, { reason: () => new Error('no answer') });
    const left = await findLeftReceipts(host.link, { signal: limit.signal }).catch(() => seen?.left);
    this.#seen.set(host, { at: now, left });
    return left;
  }
}

function keepsReceipts({ smtp, values }: Host): boolean {
  return smtp.type === 'exec' && protocolOf(smtp) === 'smtp' && values?.receipts !== 'off';
}
