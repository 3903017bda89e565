/** Straight through: the far side's replies are the client's, and nothing is kept here. */
import {
  type Direct,
  type DirectStart,
  type DirectTransaction,
  defined,
  type Envelope,
  printable,
  type Recipient,
  type Reply,
  replyClass,
} from '@postern/core';
import { type Route, routeKey } from '../route/routes.ts';

/** A transaction on its way straight through: the far side's replies are the client's. */
export class CutThrough {
  /** Equal for recipients that may share the transaction. */
  readonly key: string;
  /** Where it leads, for people. */
  readonly host: string;
  readonly #direct: Direct | undefined;
  readonly #gone = new AbortController();
  #start: Promise<DirectStart> | undefined;
  #transaction: DirectTransaction | undefined;

  constructor(route: Route, direct: Direct | undefined) {
    this.key = routeKey(route);
    this.host = route.host ?? route.smarthost ?? '';
    this.#direct = direct;
  }

  /** The reply to RCPT; MAIL goes before the first. Never rejects. */
  async rcpt(envelope: Envelope, o: { recipient: Recipient; size: number | undefined }): Promise<Reply> {
    if (this.#direct === undefined) return unavailable(`nothing leads to ${this.host}`);
    const { recipients: _none, ...rest } = envelope;
    this.#start ??= this.#direct(rest, { ...defined({ size: o.size }), signal: this.#gone.signal });
    try {
      const started = await this.#start;
      if (started.type === 'refused') return fit(started.reply);
      this.#transaction = started.transaction;
      return fit(await started.transaction.rcpt(o.recipient));
    } catch (error) {
      return unavailable(error);
    }
  }

  /** The final reply. Rejects with what `message` throws, and with nothing else. */
  async data(message: AsyncIterable<Uint8Array>): Promise<Reply> {
    let thrown: { readonly error: unknown } | undefined;
    async function* watched(): AsyncGenerator<Uint8Array> {
      try {
        yield* message;
      } catch (error) {
        thrown = { error };
        throw error;
      }
    }
    try {
      if (this.#transaction === undefined) return unavailable(`no session with ${this.host}`);
      return fit(await this.#transaction.data(watched()));
    } catch (error) {
      if (thrown !== undefined) throw thrown.error;
      return unavailable(error);
    }
  }

  /** Ends it, whatever its state. */
  close(): void {
    this.#gone.abort(new Error('the client is gone'));
    this.#transaction?.close();
  }
}

/**
 * A 421 closes the far session, not the client's (RFC 5321 §3.8); a class that cannot stand here is the far side's
 * fault.
 */
function fit(reply: Reply): Reply {
  if (reply.code === 421) return { ...reply, code: 451 };
  return replyClass(reply) === 3 ? unavailable(`unexpected reply ${reply.code}`) : reply;
}

function unavailable(error: unknown): Reply {
  const text = printable(error instanceof Error ? error.message : String(error), 400);
  return { code: 451, enhanced: '4.4.1', lines: [text] };
}
