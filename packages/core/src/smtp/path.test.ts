import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { domainOf, localPartOf, needsSmtputf8, parseForwardPath, parseReversePath } from './path.ts';

describe('paths', () => {
  const good: [string, string, string][] = [
    ['joe@example.org', 'joe@example.org', 'example.org'],
    ['<joe@Example.ORG>', 'joe@Example.ORG', 'example.org'],
    ['"a b"@example.org', '"a b"@example.org', 'example.org'],
    ['"a@b"@example.org', '"a@b"@example.org', 'example.org'],
    ['"a\\"b"@example.org', '"a\\"b"@example.org', 'example.org'],
    ['<@relay.example,@b.example:joe@example.org>', 'joe@example.org', 'example.org'],
    ['-oQ/tmp@example.org', '-oQ/tmp@example.org', 'example.org'],
    ['joe@bücher.example', 'joe@xn--bcher-kva.example', 'xn--bcher-kva.example'],
    ['jürgen@bücher.example', 'jürgen@xn--bcher-kva.example', 'xn--bcher-kva.example'],
    ['joe@例え。テスト', 'joe@xn--r8jz45g.xn--zckzah', 'xn--r8jz45g.xn--zckzah'],
    ['joe@[192.0.2.1]', 'joe@[192.0.2.1]', '[192.0.2.1]'],
    ['joe@[IPv6:2001:db8::1]', 'joe@[IPv6:2001:db8::1]', '[ipv6:2001:db8::1]'],
    ['joe@localhost', 'joe@localhost', 'localhost'],
    ['joe@example.org.', 'joe@example.org', 'example.org'],
    ['Postmaster', 'Postmaster', ''],
    [`${'l'.repeat(100)}@example.org`, `${'l'.repeat(100)}@example.org`, 'example.org'],
  ];
  for (const [text, path, domain] of good) {
    test(`takes ${text}`, () => {
      const parsed = parseForwardPath(text);
      expect(parsed).toBe(path);
      expect(domainOf(parsed)).toBe(domain);
      expect(parseForwardPath(parsed)).toBe(parsed);
    });
  }
  // Mailboxes with such dots exist by the million in Japan; the far side judges them.
  for (const text of ['.joe@x', 'joe.@x', 'foo..bar@docomo.ne.jp', '...@x']) {
    test(`takes ${text} as it stands`, () => {
      expect(parseForwardPath(`<${text}>`)).toBe(text);
      expect(parseReversePath(text)).toBe(text);
    });
  }
  const bad = [
    ...['', '<>', 'joe', '@example.org', 'joe@', 'a b@example.org', 'joe@exa mple.org'],
    ...[
      'joe@x\r\nRCPT TO:<b@x>',
      'joe@x>',
      '<joe@x',
      '"a\r\n"@x',
      '"a\0"@x',
      '"a@x',
      '"a"b"@x',
      'joe@-x.org',
      'joe@x-.org',
    ],
    ...[
      'joe@x..org',
      'joe@[1.2.3]',
      'joe@[IPv6:zz]',
      'joe@[]',
      'joe@[1.2.3.4',
      'joe@%31.example',
      'joe@１.２.３.４',
      'a\u0085@x',
    ],
    ...[
      'jo\u2028e@x',
      'jo\ud800e@x',
      `joe@${'x'.repeat(64)}.org`,
      `joe@${'x.'.repeat(150)}org`,
      `${'l'.repeat(250)}@x.org`,
    ],
  ];
  for (const text of bad) {
    test(`refuses ${JSON.stringify(text.slice(0, 40))}`, () =>
      expect(() => parseForwardPath(text)).toThrow(RangeError));
  }
  test('the null reverse-path is <> or empty', () => {
    expect(parseReversePath('<>')).toBe('');
    expect(parseReversePath('')).toBe('');
    expect(domainOf(parseReversePath(''))).toBe('');
  });
  test('tells what needs SMTPUTF8: the local part, never the domain', () => {
    expect(needsSmtputf8(parseForwardPath('jürgen@example.org'))).toBe(true);
    expect(needsSmtputf8(parseForwardPath('joe@bücher.example'))).toBe(false);
    expect(localPartOf(parseForwardPath('"a@b"@x.org'))).toBe('"a@b"');
  });
  test('whatever is taken can stand in a command line', () => {
    const mailbox = fc.tuple(
      fc.string({ unit: 'binary', maxLength: 12 }),
      fc.string({ unit: 'binary', maxLength: 12 }),
    );
    fc.assert(
      fc.property(mailbox, ([local, domain]) => {
        for (const text of [`${local}@${domain}`, `"${local}"@x.org`, `${local}@x.org`, `a@${domain}`]) {
          let path: string;
          try {
            path = parseForwardPath(text);
          } catch (error) {
            expect(error).toBeInstanceOf(RangeError);
            continue;
          }
          expect(path).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
          expect(path.replace(/"(?:[^"\\]|\\.)*"/g, '')).not.toMatch(/[<> ]/);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
