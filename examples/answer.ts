/**
 * Answers every unseen message once: reads with ImapFlow, parses with mailparser, answers with Nodemailer, all through
 * Postern's local ports. `npx tsx examples/answer.ts [TEXT…]`
 *
 * Other ports: POSTERN_IMAP and POSTERN_SMTP, as host:port.
 */
import { ImapFlow } from 'imapflow';
import { type ParsedMail, simpleParser } from 'mailparser';
import { createTransport } from 'nodemailer';

function address(variable: string, usual: string): { host: string; port: number } {
  const [host = '', port = ''] = (process.env[variable] ?? usual).split(':');
  return { host, port: Number(port) };
}

/** Lists and machines are never answered (RFC 3834 §2). */
function wantsAnswer(mail: ParsedMail): boolean {
  const automatic = mail.headers.get('auto-submitted');
  const isList = mail.headers.has('list') || mail.headers.has('precedence');
  return (automatic === undefined || automatic === 'no') && !isList && mail.from !== undefined;
}

const text = process.argv.slice(2).join(' ') || 'Thank you, your message has arrived.';
// Postern knows this process by its user id; the password is not looked at and never leaves this machine.
const imap = new ImapFlow({
  ...address('POSTERN_IMAP', '127.0.0.1:1143'),
  secure: false,
  doSTARTTLS: false,
  auth: { user: 'postern', pass: 'same-user' },
  logger: false,
});
const smtp = createTransport({ ...address('POSTERN_SMTP', '127.0.0.1:1025'), secure: false, ignoreTLS: true });

await imap.connect();
const lock = await imap.getMailboxLock('INBOX');
try {
  const unseen = (await imap.search({ seen: false, answered: false }, { uid: true })) || [];
  for (const uid of unseen) {
    const message = await imap.fetchOne(String(uid), { source: true }, { uid: true });
    if (!message || message.source === undefined) continue;
    const mail = await simpleParser(message.source);
    const to = (mail.replyTo ?? mail.from)?.text;
    if (!wantsAnswer(mail) || to === undefined) continue;
    const sent = await smtp.sendMail({
      from: process.env.POSTERN_FROM ?? 'me@localhost',
      to,
      subject: `Re: ${mail.subject ?? ''}`,
      text,
      ...(mail.messageId === undefined ? {} : { inReplyTo: mail.messageId, references: mail.messageId }),
      headers: { 'Auto-Submitted': 'auto-replied' },
    });
    await imap.messageFlagsAdd(String(uid), ['\\Seen', '\\Answered'], { uid: true });
    console.log(`answered ${to}: ${mail.subject ?? '(no subject)'} (${sent.response})`);
  }
  console.log(`${unseen.length} unseen`);
} finally {
  lock.release();
  await imap.logout();
  smtp.close();
}
