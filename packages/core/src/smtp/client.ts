/**
 * The SMTP and LMTP client, without I/O: it is told each reply and asked what may be written next.
 *
 * Law:
 * 1. Every command written joins the end of `awaiting`; every reply answers its head. `LAW` says what a reply's class means there; a
 *    class that is not in the table, or a reply nobody awaits, is *out of step*: the session is over and nothing more is matched.
 * 2. A recipient that is accepted after its MAIL was refused, a message that is accepted for nobody, or before its last byte left, is out of
 *    step too: another transaction is open over there (Exim 4.96 keeps MAIL open after a refused only recipient).
 * 3. A transaction is settled when all its commands are answered; its verdicts come from its own replies alone. What is unanswered when the
 *    session ends is `unsent` before its last byte may have left, and `uncertain` after.
 * 4. After 421, or another goodbye in answer to RSET, nothing more is written; what is still answered counts, the rest is unsent (RFC 5321 §3.8).
 * 5. In the `bsmtp` dialogue nothing waits for a reply, so the first reply of an unexpected class ends the matching (a server that
 *    refused a recipient reads the message as commands): what follows is uncertain.
 * 6. A refusal of MAIL that may be everybody's (`isInDoubt`) settles nothing yet: MAIL taken after it says that it was this sender's, and when there is none,
 *    `MAIL FROM:<>` is asked for. Where that is refused too, the session is refused, and no letter is to blame.
 *
 * The state and its words are in client-state.ts, what is written in client-steps.ts, what a reply means in client-replies.ts.
 */
import type { Envelope } from '../envelope.ts';
import type { Reply } from '../outcome.ts';
import { settleAll, takeReply } from './client-replies.ts';
import {
  type AwaitedCommand,
  askHello,
  type ClientEvent,
  type ClientOptions,
  type ClientState,
  type ClientStep,
  isBlind,
  openingState,
  openTransaction,
} from './client-state.ts';
import { nextStep, probeBytes } from './client-steps.ts';
import type { Extensions } from './extensions.ts';

/** The client's side of one session. */
export interface ClientMachine {
  /** Takes the next step; it counts as done when the caller has queued its bytes. */
  next(): ClientStep;
  receive(reply: Reply): ClientEvent[];
  /** Adds a transaction after `offer`; returns its key, counting from 0. `size` is the message's octets. */
  submit(transaction: { envelope: Envelope; size: number }): number;
  /**
   * Octets that may follow what is under way (RFC 2920) and have no reply: a NOOP without its line end, which is written once a reply has come. What
   * stands between (a netcat whose server is gone) notices by them that nobody reads any more. Undefined where none may be written.
   */
  probe(): Uint8Array | undefined;
  /** No more transactions: QUIT when all is answered. */
  finish(): void;
  /** Where the replies to MAIL and to the message of transaction `key` stand among all replies, the greeting's being 0. */
  places(key: number): { readonly mail: number; readonly final: number } | undefined;
  /** The last byte of message `key` is about to leave. */
  left(key: number): void;
  upgraded(): void;
  /** The session has ended, for whatever reason: settles what is open. */
  end(): ClientEvent[];
  /** What the oldest outstanding reply answers. Undefined when the session is over. */
  readonly awaiting: AwaitedCommand | undefined;
  /** Transactions not settled. */
  readonly open: number;
  /** QUIT was written. */
  readonly quit: boolean;
  /** From the last EHLO. */
  readonly extensions: Extensions;
  /** Where the session stands, for a log or a test: {@link formatState} has it in a line. It holds addresses and replies, and no secret. */
  readonly state: Readonly<ClientState>;
}

/** Makes a {@link ClientMachine} that awaits the greeting. */
export function createClient(options: ClientOptions): ClientMachine {
  return new SmtpClient(options);
}

class SmtpClient implements ClientMachine {
  readonly #options: ClientOptions;
  readonly state: ClientState;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.state = openingState(options);
    if (!isBlind(this.state)) return;
    askHello(this.#client);
    this.state.phase = 'ready';
  }

  next(): ClientStep {
    return nextStep(this.#client);
  }

  receive(reply: Reply): ClientEvent[] {
    return takeReply(this.#client, reply);
  }

  submit(transaction: { envelope: Envelope; size: number }): number {
    return openTransaction(this.state, transaction);
  }

  probe(): Uint8Array | undefined {
    return probeBytes(this.state);
  }

  finish(): void {
    this.state.finishing = true;
  }

  places(key: number): { readonly mail: number; readonly final: number } | undefined {
    const transaction = this.state.open.get(key);
    return transaction && { mail: transaction.mailPlace, final: transaction.finalPlace };
  }

  left(key: number): void {
    const transaction = this.state.open.get(key);
    if (transaction !== undefined) transaction.left = true;
  }

  upgraded(): void {
    this.state.secured = true;
    this.state.phase = 'opening';
    askHello(this.#client);
  }

  end(): ClientEvent[] {
    return settleAll(this.state);
  }

  get awaiting(): AwaitedCommand | undefined {
    return this.state.awaiting[0]?.command;
  }

  get open(): number {
    return this.state.open.size;
  }

  get quit(): boolean {
    return this.state.quit;
  }

  get extensions(): Extensions {
    return this.state.extensions;
  }

  get #client(): { readonly options: ClientOptions; readonly state: ClientState } {
    return { options: this.#options, state: this.state };
  }
}
