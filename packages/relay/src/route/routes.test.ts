import { parseForwardPath, parseReversePath } from '@postern/core';
import { describe, expect, test } from 'vitest';
import { compileRoutes, type Route, routeKey } from './routes.ts';

const takes = (route: Partial<Route>, to: string, from = 'me@work.example') =>
  compileRoutes([{ match: ['*'], host: 'gate', ...route }]).take(parseForwardPath(to), parseReversePath(from)) !==
  undefined;

test.each<[string, string, boolean]>([
  ['t-online.de', 'a@t-online.de', true],
  ['t-online.de', 'a@T-Online.DE', true],
  ['T-ONLINE.de', 'a@t-online.de', true],
  ['t-online.de', 'a@mail.t-online.de', false],
  ['t-online.de', 'a@not-t-online.de', false],
  ['*.t-dialin.net', 'a@p1.t-dialin.net', true],
  ['*.t-dialin.net', 'a@x.y.t-dialin.net', true],
  ['*.t-dialin.net', 'a@t-dialin.net', false],
  ['*.t-dialin.net', 'a@xt-dialin.net', false],
  ['/^t-online\\.(de|at|com)$/', 'a@t-online.at', true],
  ['/^t-online\\.(de|at|com)$/', 'a@T-ONLINE.COM', true],
  ['/^t-online\\.(de|at|com)$/', 'a@t-online.ch', false],
  ['/^t-online\\.(de|at|com)$/', 'a@t-online.de.evil.example', false],
  ['^t-online\\.(de|at|com)$', 'a@t-online.at', true],
  ['^t-online\\.(de|at|com)$', 'a@t-online.ch', false],
  ['/dialin/i', 'a@t-dialin.net', true],
  ['/^boss@/', 'Boss@x.example', true],
  ['/^boss@/', 'a@boss.example', false],
  ['user@x.example', 'User@X.example', true],
  ['user@x.example', 'other@x.example', false],
  ['*@x.example', 'other@x.example', true],
  ['root@*', 'root@anywhere.example', true],
  ['root@*.x.example', 'root@y.x.example', true],
  ['*', 'postmaster', true],
  ['x.example', 'postmaster', false],
  ['b\u00fccher.example', 'a@xn--bcher-kva.example', true],
  ['B\u00dcCHER.example', 'a@b\u00fccher.example', true],
  ['xn--bcher-kva.example', 'a@b\u00fccher.example', true],
  ['*.b\u00fccher.example', 'a@mail.xn--bcher-kva.example', true],
  ['/^b\u00fccher\\./', 'a@xn--bcher-kva.example', true],
  ['/^xn--bcher/', 'a@b\u00fccher.example', true],
  ['[192.0.2.1]', 'a@[192.0.2.1]', true],
])('%s and %s: %s', (pattern, to, expected) => expect(takes({ match: [pattern] }, to)).toBe(expected));

test.each<[string, string, boolean]>([
  ['*@work.example', 'me@work.example', true],
  ['*@work.example', 'me@home.example', false],
  ['*@work.example', '', false],
  ['<>', '', true],
  ['<>', 'me@work.example', false],
  ['*', '', true],
])('sender pattern %s and <%s>: %s', (pattern, from, expected) =>
  expect(takes({ from: [pattern] }, 'a@x.example', from)).toBe(expected),
);

test.each([
  ['/a(?=b)/', 'linear'],
  ['/(a)\\1/', 'linear'],
  ['/(?<=x)a/', 'linear'],
  ['/a', 'two slashes'],
  ['/', 'two slashes'],
  ['/a/x', 'flag'],
  ['/(/', 'pattern'],
  ['@x.example', 'local part'],
  ['a*b@x.example', 'local part'],
  ['x..example', 'not valid'],
  ['', 'empty'],
  ['*x.example', 'not valid'],
])('%s is refused with a reason', (pattern, why) => {
  expect(() => compileRoutes([{ match: [pattern], host: 'gate' }])).toThrow(
    expect.objectContaining({ name: 'RelayError', code: 'pattern', message: expect.stringContaining(why) }),
  );
});

test('a pattern that blows up elsewhere takes linear time', () => {
  const routes = compileRoutes([{ match: ['/^(a+)+$/', '/^(a|aa)*c$/'], host: 'gate' }]);
  const long = parseForwardPath(`x@${'a'.repeat(60)}.${'a'.repeat(60)}.b`);
  expect(routes.take(long, parseReversePath(''))).toBeUndefined();
});

describe('several routes', () => {
  const routes = compileRoutes([
    { match: ['x.example'], from: ['*@work.example'], host: 'work' },
    { match: ['x.example', 'y.example'], host: 'gate', dialogue: 'bsmtp' },
    { match: ['z.example'], smarthost: 'smtps://mail.example.org' },
  ]);
  const at = (to: string, from: string) => routes.take(parseForwardPath(to), parseReversePath(from));

  test('the first match wins', () => {
    expect(at('a@x.example', 'me@work.example')).toMatchObject({
      index: 0,
      pattern: 'x.example',
      from: '*@work.example',
    });
    expect(at('a@x.example', 'me@home.example')).toMatchObject({ index: 1, pattern: 'x.example' });
    expect(at('a@w.example', 'me@home.example')).toBeUndefined();
  });

  test('each step is explained', () => {
    expect(routes.explain(parseForwardPath('a@x.example'), parseReversePath('me@home.example'))).toMatchObject([
      { index: 0, verdict: 'sender does not match', pattern: 'x.example' },
      { index: 1, verdict: 'taken', pattern: 'x.example' },
    ]);
  });

  test('those that share a courier share a key', () => {
    expect(routes.routes.map(routeKey)).toEqual(['work auto', 'gate bsmtp', 'smtps://mail.example.org auto']);
  });
});

test.each([[{ match: ['*'] }], [{ match: ['*'], host: 'a', smarthost: 'smtps://b' }]])('%j leads nowhere', (route) => {
  expect(() => compileRoutes([route])).toThrow(expect.objectContaining({ code: 'route' }));
});
