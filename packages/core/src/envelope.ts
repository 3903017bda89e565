/**
 * What MAIL and RCPT say of a message, with every path checked: no value of these types can break out of its command
 * line.
 */
import type { Brand } from './brand.ts';

/**
 * A checked SMTP mailbox without angle brackets: `local@domain`, local part as given (quoted where it was), domain in
 * A-label form unless the message needs SMTPUTF8. Never holds CR, LF, NUL, `<`, `>` outside quotes (RFC 5321 §4.1.2).
 */
export type ForwardPath = Brand<string, 'ForwardPath'>;
/** A checked reverse-path without angle brackets; the empty string is the null reverse-path `<>` (RFC 5321 §4.5.5). */
export type ReversePath = Brand<string, 'ReversePath'>;

/** When a DSN is wanted for a recipient (RFC 3461 §4.1). `['NEVER']` stands alone. */
export type Notify = 'NEVER' | 'SUCCESS' | 'FAILURE' | 'DELAY';

/** One forward-path and its DSN parameters. */
export interface Recipient {
  readonly to: ForwardPath;
  readonly notify?: readonly Notify[];
  /** Original recipient, decoded: `addr-type;address` (RFC 3461 §4.2). */
  readonly orcpt?: string;
}

/** What MAIL and RCPT say of a message (RFC 5321 §2.3.1). */
export interface Envelope {
  readonly from: ReversePath;
  readonly recipients: readonly Recipient[];
  /** BODY= parameter (RFC 6152); `8BITMIME` when any octet is above 127. */
  readonly body: '7BIT' | '8BITMIME';
  /** The message has lines over 998 octets, which no server must take (RFC 5321 §4.5.3.1.6): it leaves encoded. */
  readonly longLines?: true;
  /** True when an address or a header needs SMTPUTF8 (RFC 6531). */
  readonly smtputf8: boolean;
  /** RET= parameter (RFC 3461 §4.3). */
  readonly ret?: 'FULL' | 'HDRS';
  /** ENVID= parameter, decoded (RFC 3461 §4.4). */
  readonly envid?: string;
}
