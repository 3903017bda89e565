import { describe, expect, test } from 'vitest';
import { isAddressField, qualifyField } from './qualify.ts';

const qualified = (field: string): string => qualifyField(Buffer.from(field), 'm.example').toString();

describe('bare names get the domain', () => {
  test.each([
    ['From: root (Cron Daemon)', 'From: root@m.example (Cron Daemon)'],
    ['From: (Cron Daemon) root', 'From: (Cron Daemon) root@m.example'],
    ['From: "Cron, Daemon" <root>', 'From: "Cron, Daemon" <root@m.example>'],
    ['From: "Cron \\"the\\" <Daemon>" <root>', 'From: "Cron \\"the\\" <Daemon>" <root@m.example>'],
    ['From: root (one, two)', 'From: root@m.example (one, two)'],
    ['From: root (one (two, "three) four)', 'From: root@m.example (one (two, "three) four)'],
    ['From: < root (why) >', 'From: < root@m.example (why) >'],
    ['From: <"john doe">', 'From: <"john doe"@m.example>'],
    ['From: Jörg <root>', 'From: Jörg <root@m.example>'],
    ['From:root', 'From:root@m.example'],
    ['To: root', 'To: root@m.example'],
    ['To: root, "Doe, Ann" <ann@x>, <bob>', 'To: root@m.example, "Doe, Ann" <ann@x>, <bob@m.example>'],
    [
      'To: Staff: root, "B, b" <bob>, carl (c, d);',
      'To: Staff: root@m.example, "B, b" <bob@m.example>, carl@m.example (c, d);',
    ],
    ['To: Staff: ann@x;, root', 'To: Staff: ann@x;, root@m.example'],
    ['To: "A: group": root; bob', 'To: "A: group": root@m.example; bob@m.example'],
    ['To: ann@x,\r\n root,\r\n\t<bob>\r\n', 'To: ann@x,\r\n root@m.example,\r\n\t<bob@m.example>\r\n'],
    ['To: foo..bar', 'To: foo..bar@m.example'],
  ])('%j: %j', (field, sent) => expect(qualified(field)).toBe(sent));
});

describe('left as it is', () => {
  test.each([
    'To: ann@x, bob@[192.0.2.1], "c d"@x, <"e@f"@x>',
    'To: Ann Lee <ann@x> (root)',
    'To: undisclosed-recipients:;',
    'To: <>',
    'To: ',
    'To: Ann Lee',
    'To: "Ann Lee"',
    'To: <@relay.x:ann@x>',
    'To: Ann <ann@x> root',
    'To: root, "never closed',
    'To: root (never closed',
    'To: root, <never closed',
    'To: root>, bob',
    'To: <<root>>',
    'To: ann @ x',
    'To: ann@x root',
    'To: jörg',
    'To: root\u001b$B<"',
  ])('%j', (field) => expect(qualified(field)).toBe(field));

  test('what is no UTF-8', () => {
    const raw = Buffer.from('To: \x95\x5c" <root>', 'latin1');
    expect(qualifyField(raw, 'm.example')).toBe(raw);
  });
});

test('the fields of addresses', () => {
  const names = ['from', 'resent-to', 'errors-to', 'disposition-notification-to', 'subject', 'message-id', 'received'];
  expect(names.filter(isAddressField)).toEqual(names.slice(0, 4));
});
