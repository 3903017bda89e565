/** What the gate needs of an SMTP server, whichever it is. */
import type { Server } from './server.ts';

/** What an SMTP server of the gate takes and refuses; the same for every kind. */
export interface SmtpServerOptions {
  /** Domains delivered into the Maildir; `*` takes every domain. Default `['gate.test']`. Others get 550. */
  domains?: readonly string[];
  /** Recipients refused for good: address or bare local part to the text after `550`. */
  refuse?: Readonly<Record<string, string>>;
  /** Recipients refused for now: address or bare local part to the text after `451`. */
  defer?: Readonly<Record<string, string>>;
  /** Largest message, bytes, announced as SIZE. Default 50 MiB. */
  sizeLimit?: number;
  /** Whether CHUNKING (RFC 3030) is offered. Default true. */
  chunking?: boolean;
  /** Whether PIPELINING (RFC 2920) is offered. Default true. */
  pipelining?: boolean;
  /** Settings of the server itself, by its own names; they win. `false` takes one of the gate's away. */
  settings?: Readonly<Record<string, string | false>>;
  /** A fixed port; default a free one. */
  port?: number;
}

/** A running SMTP server on 127.0.0.1. */
export interface SmtpServer extends Omit<Server, 'daemon'> {
  readonly kind: 'exim' | 'postfix';
  /** The name it greets with. */
  readonly hostname: string;
  /** What lies in its own queue, undelivered. */
  readonly spool: string;
  /** Its log so far. */
  log(): Promise<string>;
}

/** The name the gate's servers greet with. Reserved for tests: RFC 6761 §6.2. */
export const GATE_HOSTNAME = 'gate.test';
/** Largest message unless an option says otherwise. */
export const DEFAULT_SIZE_LIMIT: number = 50 * 1024 * 1024;
