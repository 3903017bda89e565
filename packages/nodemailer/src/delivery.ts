/** Where messages go: over a link, or into a spool; a transport does not know which. */
import type { Body } from './body.ts';
import type { DsnOptions, MailEnvelope } from './envelope.ts';
import type { SshSentMessageInfo } from './options.ts';

/** What a message asks for beside its envelope. */
export interface MessageOptions {
  readonly dsn: DsnOptions | undefined;
  readonly signal: AbortSignal | undefined;
}

/** One of the two. */
export interface Delivery {
  readonly idle: boolean;
  /** Disposes of `body` when it is read no more. */
  send(mail: MailEnvelope, body: Body, o: MessageOptions): Promise<Result>;
  verify(): Promise<void>;
  close(): Promise<void>;
}

/** What is told of a sent message. */
export type Result = Pick<SshSentMessageInfo, 'accepted' | 'rejected' | 'rejectedErrors' | 'response'>;
