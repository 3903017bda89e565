import { describe, expect, test } from 'vitest';
import type { Surroundings } from '../base/paths.ts';
import { parseConfig } from './load.ts';
import { DEFAULT_LISTEN, planUp } from './plan.ts';

const surroundings: Surroundings = { env: {}, uid: process.getuid?.() ?? 0, home: '/h', passwdHome: '/h' };
const plan = (text: string, hosts: string[] = [], flags: Partial<Parameters<typeof planUp>[1]> = {}) =>
  planUp(parseConfig(text, { file: '/c.toml', surroundings }), { hosts, ...flags });
const at = (port: number) => ({ type: 'tcp', host: '127.0.0.1', port }) as const;

describe('what up does', () => {
  test('a host on the command line needs no configuration', () =>
    expect(plan('', ['gate'])).toMatchObject({
      hosts: ['gate'],
      imap: [{ listen: [DEFAULT_LISTEN.imap], host: 'gate', spare: 1 }],
      smtp: { listen: [DEFAULT_LISTEN.smtp] },
      routes: [{ match: ['*'], host: 'gate' }],
    }));

  test('without any host it is a usage error', () =>
    expect(() => plan('')).toThrow(expect.objectContaining({ code: 'usage' })));

  test('a smarthost needs no host: the relay alone', () => {
    const result = plan('[[route]]\nmatch = ["*"]\nsmarthost = "smtps://mail.example.org"');
    expect(result).toMatchObject({ hosts: [], imap: [], smtp: { listen: [DEFAULT_LISTEN.smtp] } });
    expect(() => plan('[[imap]]\n[[route]]\nmatch = ["*"]\nsmarthost = "smtps://mail.example.org"')).toThrow(
      expect.objectContaining({ code: 'usage' }),
    );
  });

  test('the only configured host takes the mail', () =>
    expect(plan('[host.gate]')).toMatchObject({ imap: [{ host: 'gate' }], routes: [{ host: 'gate' }] }));

  test('several hosts without a route leave the way of mail open, which is refused', () =>
    expect(() => plan('[host.a]\n[host.b]')).toThrow(/\[\[route\]\]/));

  test('several hosts without [[imap]]: the login name picks one', () =>
    expect(plan('', ['a', 'b'])).toMatchObject({ imap: [{ spare: 1 }], routes: [{ host: 'a' }] }));

  test('a file with [[imap]] alone serves IMAP alone, and needs no route', () => {
    const result = plan('[[imap]]\nhost = "a"\n[[imap]]\nhost = "b"\nlisten = ["127.0.0.1:1"]');
    expect(result.smtp).toBeUndefined();
    expect(result.imap.map(({ host }) => host)).toEqual(['a', 'b']);
  });

  test('a file with [smtp] alone serves SMTP alone', () => expect(plan('[smtp]', ['gate']).imap).toEqual([]));

  test('a named host leaves the endpoints of others closed', () =>
    expect(
      plan('[[imap]]\nhost = "a"\n[[imap]]\nhost = "b"\nlisten = ["127.0.0.1:1"]', ['b']).imap.map(({ host }) => host),
    ).toEqual(['b']));

  test('--imap and --smtp replace addresses, and open what the file has not', () => {
    expect(plan('', ['gate'], { imap: at(1), smtp: at(2) })).toMatchObject({
      imap: [{ listen: [at(1)] }],
      smtp: { listen: [at(2)] },
    });
    expect(plan('[smtp]', ['gate'], { imap: at(1) })).toMatchObject({ imap: [{ listen: [at(1)], host: 'gate' }] });
  });

  test('an address beyond loopback on the command line is a usage error', () =>
    expect(() => plan('', ['gate'], { imap: { type: 'tcp', host: '0.0.0.0', port: 1 } })).toThrow(
      expect.objectContaining({ code: 'usage' }),
    ));

  test.each(['-oProxyCommand=x', 'a b', '', "a'b"])('%j is no host', (name) =>
    expect(() => plan('', [name])).toThrow(expect.objectContaining({ code: 'usage' })),
  );
});
