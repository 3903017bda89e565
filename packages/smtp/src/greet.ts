/** A look at an SMTP server: greets it as delivery does, goes as far as MAIL and RSET, and leaves nothing behind. */
import {
  deadline,
  type Env,
  type Link,
  printable,
  type Reply,
  replyClass,
  replyText,
  type Target,
} from '@postern/core';
import { type Conversation, converse } from './conversation.ts';
import { DeliveryError } from './error.ts';

/** Extensions worth telling a person of: they decide how fast and how much. */
const TOLD = /^(PIPELINING|CHUNKING|8BITMIME|SMTPUTF8|SIZE|DSN|LIMITS)\b/i;

/**
 * Opens an SMTP session, reads greeting and EHLO, tries MAIL, quits. `helo` is the name to greet with. Resolves with what was found, one
 * line. Rejects with {@link DeliveryError} or `LinkError`.
 */
export async function greetSmtp(
  link: Link,
  target: Target,
  o: { env: Env; timeoutMs: number; helo?: string },
): Promise<string> {
  const silent = (): Error => new DeliveryError(`no SMTP greeting in ${o.timeoutMs / 1000} s`, { code: 'timeout' });
  using limit = deadline(o.env, o.timeoutMs, { reason: silent });
  const session = await converse(link, target, { env: o.env, signal: limit.signal });
  try {
    return await look(session, { hello: target.type === 'unix' ? 'LHLO' : 'EHLO', helo: o.helo ?? '[127.0.0.1]' });
  } finally {
    await session.farewell();
  }
}

async function look(session: Conversation, o: { hello: string; helo: string }): Promise<string> {
  const greeting = await session.greeting();
  if (greeting.code !== 220) throw refused('the SMTP server refuses', greeting);
  const answer = await session.ask(`${o.hello} ${o.helo}`, 'hello');
  if (replyClass(answer) !== 2) throw refused(`the SMTP server refuses ${o.hello}`, answer);
  const mail = await session.ask('MAIL FROM:<>', 'mail');
  if (replyClass(mail) !== 2) throw refused('the SMTP server refuses MAIL', mail);
  // Postfix keeps what it has against a name for RCPT (smtpd_delay_reject), except for a bare postmaster; what else it says is no matter here.
  const rcpt = await session.ask('RCPT TO:<postmaster@localhost>', 'rcpt');
  if (rcpt.code === 504 || /\bhelo\b/i.test(replyText(rcpt))) {
    throw refused(`the SMTP server refuses the name ${o.helo} it is greeted with; [smtp] helo gives another`, rcpt);
  }
  await session.ask('RSET', 'reset');
  const told = answer.lines.slice(1).filter((line) => TOLD.test(line));
  return printable(`${replyText(greeting)} (${told.length === 0 ? 'no extensions' : told.join(', ')})`, 300);
}

function refused(what: string, reply: Reply): DeliveryError {
  return new DeliveryError(`${what}: ${printable(replyText(reply), 200)}`, { code: 'refused', reply });
}
