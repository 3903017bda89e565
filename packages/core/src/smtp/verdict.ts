/** What the replies of one transaction mean for each of its recipients. Pure; {@link ClientMachine} feeds it. */
import { type Outcome, outcomeOf, type Reply, replyClass, replyText } from '../outcome.ts';

/** What became of one recipient of a transaction. */
export type Verdict =
  | Outcome
  /**
   * Proven not accepted, and no word about the recipient itself: it may be sent again at once, in another transaction or session. `reply` is
   * a 421, or the 452 of a server that takes no more recipients in one transaction.
   */
  | { readonly type: 'unsent'; readonly reply?: Reply };

/** The replies to one transaction so far. */
export interface TransactionReplies {
  readonly mail: Reply | undefined;
  /** One place per recipient, in the envelope's order. */
  readonly rcpt: readonly (Reply | undefined)[];
  /** To DATA; with BDAT always undefined. */
  readonly data: Reply | undefined;
  /** LMTP: one final reply per accepted recipient (RFC 2033 §4.2). */
  readonly perRecipient: boolean;
  /** After the message. */
  readonly finals: readonly Reply[];
  /** The message's last byte may have left. */
  readonly left: boolean;
}

/** How the session stands when verdicts are asked for. */
export interface SessionEnd {
  /** The last reply, when commands after it went unanswered: see {@link verdicts}. */
  readonly suspect: Reply | undefined;
  /** The 421, or the refusal of RSET, with which the server announced the end. */
  readonly closing: Reply | undefined;
  /** What became of another sender at MAIL, behind a refusal that {@link isInDoubt}. */
  readonly otherSender?: 'taken' | 'refused' | undefined;
}

/** The recipients that were accepted. */
export function acceptedCount(replies: TransactionReplies): number {
  return replies.rcpt.filter((reply) => reply !== undefined && replyClass(reply) === 2).length;
}

/**
 * One verdict per recipient, in the envelope's order. The most specific reply counts: MAIL's refusal, RCPT's refusal, DATA's refusal, the final
 * reply. A 5yz that was the session's very last word, with commands after it unanswered, is only a deferral: Exim 4.96 sends `554 Too
 * many syntax or protocol errors` as an extra reply and closes, so that it would be matched to an innocent command. So is one that is
 * {@link isAboutClient} or {@link isOutOfPlace}. A refusal of MAIL that {@link isInDoubt} is this sender's when another one was taken, and the session's when
 * that was refused too; where nobody knows, its words decide.
 */
export function verdicts(replies: TransactionReplies, end?: SessionEnd): Verdict[] {
  const accepted = acceptedCount(replies);
  let place = 0;
  return replies.rcpt.map((rcpt): Verdict => {
    if (isRefusal(replies.mail)) return mailRefused(replies.mail, end);
    if (isRefusal(rcpt)) return accepted > 0 && isTooMany(rcpt) ? { type: 'unsent', reply: rcpt } : refused(rcpt, end);
    const final = replies.finals[replies.perRecipient ? place : 0];
    if (rcpt !== undefined) place++;
    if (isRefusal(replies.data)) return refused(replies.data, end);
    if (rcpt !== undefined && final !== undefined)
      return isGoodbye(final) || isOutOfPlace(final) ? refused(final, end) : outcomeOf(final);
    if (end?.closing !== undefined) return { type: 'unsent', reply: end.closing };
    return replies.left ? { type: 'uncertain' } : { type: 'unsent' };
  });
}

/** True when the server takes no more recipients in this transaction (RFC 5321 §4.5.3.1.10), by code or by its words (OpenSMTPD 6.8: 451). */
export function isTooMany(reply: Reply): boolean {
  if (reply.enhanced?.slice(1) === '.5.3') return true;
  return reply.code === 452 || ([451, 552].includes(reply.code) && /too many recipients/i.test(replyText(reply)));
}

/**
 * True for a reply after which the server closes: 221, 421 (RFC 5321 §3.8), and the last word of Exim 4.96 to a client it finds clumsy
 * (`503 Too many syntax or protocol errors`, `554 Too many nonmail commands`),
 * or of Postfix 3.11 to one that is ahead of a reply (`554 5.5.0 Error: SMTP protocol synchronization`).
 */
export function isGoodbye(reply: Reply): boolean {
  if (reply.code === 221 || reply.code === 421) return true;
  return (
    replyClass(reply) === 5 &&
    /^(?:too many (?:syntax or protocol errors|nonmail commands)|error: smtp protocol synchronization)/i.test(
      reply.lines.at(-1) ?? '',
    )
  );
}

/** The greeting name, the address, or the missing login or TLS of the client: words of Postfix 3.x (`smtpd_*_restrictions`), Exim 4.9x and sendmail 8. */
const ABOUT_CLIENT =
  /\b(?:helo|ehlo) (?:command )?(?:name )?(?:rejected|refused|invalid)|client host (?:rejected|\[)|need fully-qualified hostname|(?:invalid|bad|wrong|unresolvable) (?:helo|ehlo)|authentication required|must issue a STARTTLS/i;

/**
 * True for a refusal of MAIL or RCPT that is aimed at this host, whatever it brings: what the server thinks of our name or address, of no login, of
 * no TLS (RFC 4954 §6, RFC 3207 §4: 530; RFC 7372 §3.2: X.7.25). It is a fault of the session that somebody can mend, so no letter bounces for it.
 */
export function isAboutClient(reply: Reply): boolean {
  return reply.code === 530 || reply.enhanced?.slice(1) === '.7.25' || ABOUT_CLIENT.test(reply.lines.join(' '));
}

/** What a refusal of MAIL speaks of when it means this sender or this letter. */
const ABOUT_MAIL =
  /[@<]|\b(?:sender|from|address|domain|user|mailbox|message|mail (?:is )?too|size|large|spf|dkim|dmarc|parameter|syntax|8bitmime|smtputf8|quota)\b/i;

/**
 * True when a permanent refusal of MAIL is about the sender or the letter by its codes: 501, 552, 553 and 555 (RFC 5321 §4.2.2), X.1, X.2, X.6, X.3.4, and of
 * X.5 syntax and parameters (RFC 3463 §3). No other code tells: `550 Access denied` and 5.7.1 are said to one sender, or to whoever comes from here.
 */
function isAboutMail(reply: Reply): boolean {
  if (isAboutClient(reply)) return false;
  if ([501, 552, 553, 555].includes(reply.code)) return true;
  return /^\.(?:[126]\.|3\.4$|5\.[24]$)/.test(reply.enhanced?.slice(1) ?? '');
}

/** True for a refusal of MAIL that may be one of the whole session, so that it would bounce letter after letter: asking for another sender tells. */
export function isInDoubt(reply: Reply): boolean {
  return replyClass(reply) === 5 && !isGoodbye(reply) && !isOutOfPlace(reply) && !isAboutMail(reply);
}

function mailRefused(reply: Reply, end: SessionEnd | undefined): Verdict {
  const verdict = refused(reply, end);
  if (!isInDoubt(reply)) return verdict;
  if (end?.otherSender === 'refused') return { type: 'unsent', reply };
  const isSenders = end?.otherSender === 'taken' || ABOUT_MAIL.test(reply.lines.join(' '));
  return isSenders || verdict.type !== 'failed' ? verdict : { type: 'deferred', reply, reason: replyText(reply) };
}

/**
 * True for `500 command not recognized` and `503 bad sequence`: what is written here is neither, so the server has read something else, and it says
 * nothing of a letter. Postfix 3.11 reads a chunk that it has refused for its size as commands.
 */
function isOutOfPlace(reply: Reply): boolean {
  return reply.code === 500 || reply.code === 503;
}

function isRefusal(reply: Reply | undefined): reply is Reply {
  return reply !== undefined && replyClass(reply) >= 4;
}

function refused(reply: Reply, end: SessionEnd | undefined): Verdict {
  if (isGoodbye(reply)) return { type: 'unsent', reply };
  const innocent = reply === end?.suspect || isAboutClient(reply) || isOutOfPlace(reply);
  if (innocent && replyClass(reply) === 5) return { type: 'deferred', reply, reason: replyText(reply) };
  return outcomeOf(reply);
}
