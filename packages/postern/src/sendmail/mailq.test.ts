import { expect, test } from 'vitest';
import { formatMailq } from './mailq.ts';

test('an empty queue says so in the words log checkers look for', () => {
  expect(formatMailq([])).toBe('Mail queue is empty\n');
});

test('entries are listed with their reason and recipients, text from afar escaped', () => {
  const arrived = new Date(2026, 0, 2, 3, 4, 5).toISOString();
  const text = formatMailq([
    {
      id: 'abc',
      from: 'me@x',
      size: 2000,
      state: 'deferred',
      arrived,
      reason: 'gate: \u001b[31mno',
      recipients: [{ address: 'a@x' }, { address: 'b@x' }],
    },
    { id: 'def', from: '', size: 10, state: 'held', arrived, reason: '', recipients: [{ address: 'c@x' }] },
  ]);
  expect(text).toBe(
    [
      '-Queue ID-           --Size-- ----Arrival Time---- -Sender/Recipient-------',
      'abc                     2000 Fri Jan 02 03:04:05  me@x',
      '(gate: \\x1b[31mno)',
      `${' '.repeat(49)}a@x`,
      `${' '.repeat(49)}b@x`,
      '',
      'def!                      10 Fri Jan 02 03:04:05  MAILER-DAEMON',
      `${' '.repeat(49)}c@x`,
      '',
      '-- 2 Kbytes in 2 Requests.',
      '',
    ].join('\n'),
  );
});
