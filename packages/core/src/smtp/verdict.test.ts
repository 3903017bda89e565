/** What replies mean: who is meant by a refusal, and what becomes of the letter. */
import { describe, expect, test } from 'vitest';
import type { Reply } from '../outcome.ts';
import { createReplyParser } from './reply.ts';
import { verdicts } from './verdict.ts';

function reply(text: string): Reply {
  const [event] = createReplyParser().push(Buffer.from(`${text}\r\n`));
  if (event?.type !== 'reply') throw new Error(`no reply: ${text}`);
  return event.reply;
}
const OK = reply('250 ok');

/** The verdict on a lone recipient that was refused with this, at RCPT and at MAIL. */
function refusedWith(text: string): string[] {
  const told = { data: undefined, perRecipient: false, finals: [], left: false };
  const atRcpt = verdicts({ ...told, mail: OK, rcpt: [reply(text)] });
  const atMail = verdicts({ ...told, mail: reply(text), rcpt: [undefined] });
  return [...atRcpt, ...atMail].map(({ type }) => type);
}

describe('a refusal of this host bounces no letter', () => {
  for (const text of [
    '504 5.5.2 <laptop>: Helo command rejected: need fully-qualified hostname',
    '501 5.5.2 <x_y>: Helo command rejected: Invalid name',
    '550 5.7.1 <laptop>: Helo command rejected: Host not found',
    '554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied',
    '554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using list.example',
    '550 5.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]',
    '550 5.7.25 Reverse DNS does not match',
    '530 5.7.0 Must issue a STARTTLS command first',
    '530 5.7.1 Authentication required',
    '530 login first',
    '550 Bad HELO: use your name',
    '550 EHLO rejected',
  ]) {
    test(text, () => expect(refusedWith(text)).toEqual(['deferred', 'deferred']));
  }
});

describe('at MAIL, a refusal that speaks of no mail is one of this host', () => {
  for (const text of [
    '550 Access denied',
    '550 Administrative prohibition',
    '554 5.7.1 Access denied',
    '550 5.7.1 Service unavailable',
    '554 5.3.2 System not accepting network messages',
    '521 host does not accept mail',
  ]) {
    test(text, () => expect(refusedWith(text)[1]).toBe('deferred'));
  }
  for (const text of [
    '550 sender rejected',
    '550 5.7.1 SPF check failed',
    '552 too much',
    '550 5.3.4 too big for us',
    '555 what is this',
    '550 me@x.example may not send',
  ]) {
    test(`${text} is not`, () => expect(refusedWith(text)[1]).toBe('failed'));
  }
});

describe('at MAIL, what another sender was told decides where the codes do not', () => {
  const told = { data: undefined, perRecipient: false, finals: [], left: false, rcpt: [undefined] };
  const judged = (text: string, otherSender: 'taken' | 'refused'): string | undefined =>
    verdicts({ ...told, mail: reply(text) }, { suspect: undefined, closing: undefined, otherSender })[0]?.type;
  test.each([
    ['550 Access denied', 'failed', 'unsent'],
    ['554 5.7.1 <me@x.example>: Sender address rejected: Access denied', 'failed', 'unsent'],
    ['550 5.7.1 SPF check failed', 'failed', 'unsent'],
    ['554 5.5.0 not here', 'failed', 'unsent'],
    ['530 5.7.0 Authentication required', 'deferred', 'unsent'],
    ['501 5.5.2 <x_y>: Helo command rejected: Invalid name', 'deferred', 'unsent'],
    ['550 5.1.8 no such domain', 'failed', 'failed'],
    ['550 5.1.7 bad sender', 'failed', 'failed'],
    ['552 too large', 'failed', 'failed'],
    ['550 5.3.4 too large', 'failed', 'failed'],
    ['550 5.6.7 no UTF-8', 'failed', 'failed'],
    ['501 what', 'failed', 'failed'],
    ['550 5.5.4 unknown parameter', 'failed', 'failed'],
    ['450 4.7.1 later', 'deferred', 'deferred'],
    ['503 5.5.1 nested MAIL', 'deferred', 'deferred'],
  ])('%s: %s when it was taken, %s when it was not', (text, taken, refused) => {
    expect([judged(text, 'taken'), judged(text, 'refused')]).toEqual([taken, refused]);
  });
});

describe('what a server says that has read something else is no verdict', () => {
  for (const text of ['500 5.5.2 Error: command not recognized', '503 5.5.1 Error: nested MAIL command']) {
    test(text, () => {
      expect(refusedWith(text)).toEqual(['deferred', 'deferred']);
      const told = { mail: OK, rcpt: [OK], data: undefined, perRecipient: false, left: true };
      expect(verdicts({ ...told, finals: [reply(text)] })).toMatchObject([{ type: 'deferred' }]);
    });
  }
});

describe('a refusal of a sender, a recipient or a message is one', () => {
  for (const text of [
    '550 5.1.1 <joe@gate.test>: Recipient address rejected: User unknown',
    '554 5.7.1 <joe@gate.test>: Relay access denied',
    '553 5.1.8 Domain of sender address does not exist',
    '550 5.7.1 Message rejected',
    '550 5.7.1 helo@gate.test: no such user',
    '554 5.7.1 Sender address rejected: not logged in',
  ]) {
    test(text, () => expect(refusedWith(text)).toEqual(['failed', 'failed']));
  }
});
