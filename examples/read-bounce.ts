/**
 * What a bounce says, per recipient: `npx tsx examples/read-bounce.ts < bounce.eml`
 *
 * Reads an RFC 3464 delivery status notification with mailparser, as Postern and every MTA write them.
 */
import { simpleParser } from 'mailparser';

/** The fields of one block of `message/delivery-status` (RFC 3464 §2), names in lower case. */
function fields(block: string): Map<string, string> {
  const unfolded = block.replace(/\r?\n[ \t]+/g, ' ');
  return new Map(
    unfolded.split(/\r?\n/).flatMap((line): [string, string][] => {
      const at = line.indexOf(':');
      return at > 0 ? [[line.slice(0, at).toLowerCase(), line.slice(at + 1).trim()]] : [];
    }),
  );
}

const mail = await simpleParser(process.stdin, { keepDeliveryStatus: true });
const status = mail.attachments.find((part) => part.contentType === 'message/delivery-status');
if (status === undefined) {
  console.error('that is no delivery status notification');
  process.exit(65);
}
// The first block is about the message, each other one about a recipient.
const [, ...recipients] = status.content
  .toString('utf8')
  .trim()
  .split(/\r?\n\r?\n/)
  .map(fields);
for (const recipient of recipients) {
  const to = recipient.get('final-recipient')?.replace(/^rfc822;\s*/i, '');
  console.log(
    `${to}: ${recipient.get('action')} ${recipient.get('status')} ${recipient.get('diagnostic-code') ?? ''}`.trim(),
  );
}
