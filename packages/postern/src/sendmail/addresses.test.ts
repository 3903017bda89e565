import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readAddresses } from './addresses.ts';

describe('addresses of a header field', () => {
  test.each<[string, string[]]>([
    ['a@x', ['a@x']],
    ['a@x, b@x', ['a@x', 'b@x']],
    ['"Doe, Ann" <ann@x>, Bob <bob@x>', ['ann@x', 'bob@x']],
    ['team: a@x, Bob <b@x>;, c@x', ['a@x', 'b@x', 'c@x']],
    ['undisclosed-recipients:;', []],
    ['', []],
    ['(a, comment) a@x (another (nested, one))', ['a@x']],
    ['=?utf-8?Q?J=C3=B6rg=2C?= <j@x>', ['j@x']],
    ['root', ['root']],
    ['root, Ann <ann@x>', ['root', 'ann@x']],
    ['root, "Ann" <ann@x>, daemon', ['root', 'ann@x', 'daemon']],
    ['<root>', ['root']],
    ['Ann Lee, PhD <ann@x>', ['ann@x']],
    ['"a b"@x', ['"a b"@x']],
    ['"a,b"@x, c@x', ['"a,b"@x', 'c@x']],
    ['a@[192.0.2.1], b@x', ['a@[192.0.2.1]', 'b@x']],
    ['<@relay.example:a@x>', ['a@x']],
    ['jörg@exämple.de', ['jörg@exämple.de']],
    ['"quoted \\" and, comma" <a@x>,b@x', ['a@x', 'b@x']],
    ['first.last', ['first.last']],
    // What a person meant by these is two.
    ['a@x b@x', ['a@x', 'b@x']],
    ['a@x  b@x\tc@x', ['a@x', 'b@x', 'c@x']],
    ['a@x; b@x', ['a@x', 'b@x']],
    ['a@x;b@x;', ['a@x', 'b@x']],
    ['Ann <ann@x> Bob <bob@x>', ['ann@x', 'bob@x']],
    ['<a@x><b@x>', ['a@x', 'b@x']],
    ['Ann <ann@x> b@x', ['ann@x', 'b@x']],
    ['Ann <ann@x>; Bob <bob@x>', ['ann@x', 'bob@x']],
    ['a@x (Ann) b@x (Bob)', ['a@x', 'b@x']],
    ['"a b"@x c@x', ['"a b"@x', 'c@x']],
    ['Ann <ann@x> (a comment)', ['ann@x']],
    ['Ann <ann@x> (one), b@x', ['ann@x', 'b@x']],
    ['ann@x <ann@x>', ['ann@x']],
    ['team: a@x b@x, c@x; d@x', ['a@x', 'b@x', 'c@x', 'd@x']],
    ['foo..bar@x, .a@x, b.@x', ['foo..bar@x', '.a@x', 'b.@x']],
  ])('%s', (value, expected) => {
    expect(readAddresses(value)).toEqual({ addresses: expected, faults: [] });
  });

  test.each<[string, string[], string[]]>([
    ['two words', [], ['two words']],
    ['a@x, two words', ['a@x'], ['two words']],
    ['Ann Lee ann@x', [], ['Ann Lee ann@x']],
    ['root ann@x, b@x', ['b@x'], ['root ann@x']],
  ])('%j has a piece that cannot be told apart, which is named', (value, addresses, faults) => {
    expect(readAddresses(value)).toEqual({ addresses, faults });
  });

  test('every address of a well-formed list is found, whatever the display names', () => {
    const address = fc
      .tuple(fc.stringMatching(/^[a-z0-9]{1,8}$/), fc.stringMatching(/^[a-z]{1,8}\.example$/))
      .map(([l, d]) => `${l}@${d}`);
    const mailbox = fc.oneof(
      address.map((a) => [a, a] as const),
      fc
        .tuple(fc.string({ maxLength: 12, unit: fc.constantFrom(...'ab ,;:<>()@."\\') }), address)
        .map(([name, a]) => [`"${name.replace(/["\\]/g, '\\$&')}" <${a}>`, a] as const),
    );
    fc.assert(
      fc.property(fc.array(mailbox, { minLength: 1, maxLength: 6 }), (list) => {
        expect(readAddresses(list.map(([text]) => text).join(', ')).addresses).toEqual(list.map(([, a]) => a));
      }),
    );
  });
});
