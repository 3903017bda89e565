/** What a script gives a transport, and what it gets for a message. */
import type { Dialogue, Env, Link } from '@postern/core';
import type { ResolveOptions } from '@postern/ssh';
import type { SentMessageInfo } from 'nodemailer';
import type { TransportError } from './errors.ts';

/** Options of {@link sshTransport}. One of `host`, `link` and `queue` says where mail goes. */
export interface SshTransportOptions {
  /** An SSH host, resolved as ssh would; its link is made when needed and ended when nothing is left to send. */
  readonly host?: string;
  /** How to resolve `host`. */
  readonly resolve?: ResolveOptions;
  /** A link that others use too; it is never closed here. */
  readonly link?: Link;
  /**
   * A spool directory: messages are kept there for a running or later Postern to deliver; nothing is sent from here.
   */
  readonly queue?: string;
  /** What speaks SMTP over there: a command, `tcp:host:port` or `unix:/path`. Default `netcat localhost smtp`. */
  readonly smtp?: string;
  /** Default `auto`. */
  readonly dialogue?: Dialogue;
  /** The name for EHLO. Default `[127.0.0.1]`. */
  readonly helo?: string;
  /** How long a session may take to open, host down included, milliseconds. Default 30 s. */
  readonly connectTimeoutMs?: number;
  readonly env?: Env;
}

/** What `sendMail` resolves with: at least one recipient was accepted. */
export interface SshSentMessageInfo extends SentMessageInfo {
  /** Recipients the far server took responsibility for; with `queue`, all of them. */
  accepted: string[];
  /** Recipients it did not take. */
  rejected: string[];
  /** Why, per rejected recipient. */
  rejectedErrors: TransportError[];
  /** The last reply that accepted a recipient; with `queue`, the entry's id. */
  response: string;
}
