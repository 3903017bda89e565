import { describe, expect, test } from 'vitest';
import { PosternError } from '../base/errors.ts';
import type { Surroundings } from '../base/paths.ts';
import { parseConfig } from './load.ts';

const surroundings: Surroundings = {
  env: {},
  uid: process.getuid?.() ?? 0,
  home: '/home/ann',
  passwdHome: '/home/ann',
};

const parse = (text: string) => parseConfig(text, { file: '/etc/p/config.toml', surroundings });

function refusal(text: string): string {
  try {
    parse(text);
  } catch (error) {
    if (error instanceof PosternError && error.code === 'config') return error.message;
    throw error;
  }
  throw new Error('the configuration was accepted');
}

const DESIGNED = `
state_dir = "~/.local/state/postern"
ssh_config = "~/.ssh/config"
[host.gate]
destination = "jfranken@gate.example.net:22"
jump = ["bastion"]
backend = "auto"
identity = ["~/.ssh/id_ed25519"]
known_hosts = ["~/.ssh/known_hosts"]
compression = false
keepalive = "5s"
imapd = "imapd"
smtp = "netcat localhost smtp"
[[imap]]
listen = ["127.0.0.1:1143", "unix:imap.sock"]
host = "gate"
tls = "off"
spare = 1
[smtp]
listen = ["127.0.0.1:1025", "unix:smtp.sock"]
[access]
allow = ["same-user", "password", "user:root", "anyone"]
[[route]]
match = ["t-online.de", "*.t-dialin.net", "/^t-online\\\\.(de|at|com)$/"]
from = ["*@work.example"]
host = "gate"
dialogue = "auto"
queue = true
`;

test('every key of a whole file is read, ~ is $HOME, relative sockets lie in the runtime directory', () => {
  const config = parse(DESIGNED);
  expect(config.stateDir).toBe('/home/ann/.local/state/postern');
  expect(config.hosts.get('gate')).toEqual({
    destination: 'jfranken@gate.example.net:22',
    jump: ['bastion'],
    backend: 'auto',
    identity: ['/home/ann/.ssh/id_ed25519'],
    known_hosts: ['/home/ann/.ssh/known_hosts'],
    compression: false,
    keepalive: 5000,
    imapd: 'imapd',
    smtp: 'netcat localhost smtp',
  });
  expect(config.imap[0]?.listen).toEqual([
    { type: 'tcp', host: '127.0.0.1', port: 1143 },
    { type: 'unix', path: `${config.runtimeDir}/imap.sock` },
  ]);
  expect(config.allow).toContainEqual({ type: 'user', name: 'root', uid: 0 });
  expect(config.routes[0]?.match).toHaveLength(3);
});

test('an empty file is a configuration', () => {
  expect(parse('').allow).toEqual([{ type: 'same-user' }, { type: 'password' }]);
});

test('XDG_RUNTIME_DIR is used only when it is a directory of ours', () => {
  const at = (dir: string) =>
    parseConfig('', { file: '/f', surroundings: { ...surroundings, env: { XDG_RUNTIME_DIR: dir } } }).runtimeDir;
  expect(at(process.cwd())).toBe(`${process.cwd()}/postern`);
  expect(at('/nonexistent')).not.toContain('/nonexistent');
});

/** Text, line, key, and what the refusal must say. */
const REFUSED: readonly [text: string, line: number, key: string, says: string][] = [
  ['a = ]', 1, 'not valid TOML', ''],
  ['x = 1\n\nx = 2', 3, 'not valid TOML', ''],
  ['\nspol = 1', 2, 'spol', 'accepted: state_dir, ssh_config, host'],
  ['state_dir = 5', 1, 'state_dir', '5 is not accepted; accepted: a path'],
  ['state_dir = "~bob/x"', 1, 'state_dir', "another user's home"],
  ['ssh_config = true', 1, 'ssh_config', 'true is not accepted'],
  ['[host.gate]\n\ndestinatoin = "x"', 3, 'host.gate.destinatoin', 'accepted: destination, jump'],
  ['[host.gate]\ndestination = "a b"', 2, 'host.gate.destination', '[user@]host[:port]'],
  ['[host.gate]\ndestination = "-oProxyCommand=x"', 2, 'host.gate.destination', '[user@]host[:port]'],
  ['[host.gate]\ndestination = "gate:70000"', 2, 'host.gate.destination', 'port'],
  ['[host.gate]\njump = "bastion"', 2, 'host.gate.jump', 'accepted: a list of'],
  ['[host.gate]\njump = [\n "a",\n 7]', 4, 'host.gate.jump[1]', '7 is not accepted'],
  ['[host.gate]\nbackend = "paramiko"', 2, 'host.gate.backend', '"auto", "ssh2", "openssh"'],
  ['[host.gate]\nidentity = "~/.ssh/id"', 2, 'host.gate.identity', 'accepted: a list of'],
  ['[host.gate]\nknown_hosts = []', 2, 'host.gate.known_hosts', 'at least one'],
  ['[host.gate]\ncompression = "yes"', 2, 'host.gate.compression', 'accepted: true or false'],
  ['[host.gate]\nkeepalive = 5', 2, 'host.gate.keepalive', 'accepted: a duration'],
  ['[host.gate]\nkeepalive = "5 s"', 2, 'host.gate.keepalive', 'not a duration'],
  ['[host.gate]\nkeepalive = "0s"', 2, 'host.gate.keepalive', 'out of range'],
  ['[host.gate]\nimapd = ""', 2, 'host.gate.imapd', 'accepted: a command'],
  ['[host.gate]\nsmtp = "tcp:localhost"', 2, 'host.gate.smtp', 'accepted: a command, "tcp:HOST:PORT"'],
  ['[host."-oX"]\nimapd = "x"', 1, 'host.-oX', 'accepted: a name as given to ssh'],
  ['host = 3', 1, 'host', 'accepted: tables'],
  ['[imap]\nhost = "gate"', 1, 'imap', 'accepted: [[imap]] tables'],
  ['[[imap]]\nlisten = "127.0.0.1:1143"', 2, 'imap[0].listen', 'accepted: a list of'],
  ['[[imap]]\nlisten = []', 2, 'imap[0].listen', 'at least one'],
  ['[[imap]]\nlisten = ["1143"]', 2, 'imap[0].listen[0]', 'accepted: "127.0.0.1:PORT"'],
  ['[[imap]]\nlisten = ["127.0.0.1:99999"]', 2, 'imap[0].listen[0]', '65535'],
  ['[[imap]]\nlisten = ["unix:"]', 2, 'imap[0].listen[0]', 'no socket file'],
  ['[[imap]]\nlisten = ["0.0.0.0:1143"]', 2, 'imap[0].listen[0]', 'expose = true'],
  ['[[imap]]\nlisten = ["[::]:1143"]\nexpose = true', 2, 'imap[0].listen[0]', 'TLS is off'],
  [
    '[[imap]]\nlisten = ["192.0.2.1:1143"]\nexpose = true\ntls = "implicit"',
    2,
    'imap[0].listen[0]',
    'not exactly ["password"]',
  ],
  ['[smtp]\nlisten = ["192.0.2.1:1025"]', 2, 'smtp.listen[0]', 'expose = true'],
  ['[[imap]]\n[[imap]]\nhost = "a b"', 3, 'imap[1].host', 'accepted: a name as given to ssh'],
  ['[[imap]]\ntls = "on"', 2, 'imap[0].tls', '"off", "starttls", "implicit"'],
  ['[[imap]]\ntls_key = "k"', 2, 'imap[0].tls_key', 'TLS is off'],
  ['[[imap]]\nspare = -1', 2, 'imap[0].spare', 'a whole number from 0 to 16'],
  ['[[imap]]\nspare = 1.5', 2, 'imap[0].spare', 'a whole number'],
  ['[smtp]\nmax_size = "lots"', 2, 'smtp.max_size', 'accepted: a size'],
  ['[smtp]\nmax_size = "1B"', 2, 'smtp.max_size', 'too small'],
  ['[[imap]]\nlisten = ["127.0.0.1:5"]\n[smtp]\nlisten = ["127.0.0.1:5"]', 4, 'smtp.listen[0]', 'taken'],
  ['[access]\nallow = ["everyone"]', 2, 'access.allow[0]', '"same-user", "password", "user:NAME"'],
  ['[access]\nallow = ["user:no-such-user-here"]', 2, 'access.allow[0]', 'no user'],
  ['[access]\nallow = "password"', 2, 'access.allow', 'accepted: a list of'],
  ['[[route]]\nhost = "gate"', 1, 'route[0].match', 'is missing'],
  ['[[route]]\nmatch = ["*"]', 1, 'route[0]', 'accepted: either host or smarthost'],
  ['[[route]]\nmatch = ["*"]\nhost = "a"\nsmarthost = "smtps://h"', 1, 'route[0]', 'two places'],
  ['[[route]]\nmatch = ["/(/"]\nhost = "a"', 2, 'route[0].match[0]', 'not a pattern'],
  ['[[route]]\nmatch = ["*"]\nhost = "a"\ndialogue = "fast"', 4, 'route[0].dialogue', '"auto", "stream"'],
  ['[[route]]\nmatch = ["*"]\nhost = "a"\nqueue = 1', 4, 'route[0].queue', 'accepted: true or false'],
  ['[[route]]\nmatch = ["*"]\nsmarthost = "http://x"', 3, 'route[0].smarthost', 'smtps://'],
  ['[[route]]\nmatch = ["*"]\nsmarthost = "smtps://me@h"', 3, 'route[0].smarthost', 'no password'],
  ['[[route]]\nmatch = ["*"]\nsmarthost = "smtps://h"\npassword_file = "p"', 4, 'route[0].password_file', 'no user'],
  ['[[route]]\nmatch = ["*"]\nsmarthost = "smtps://h"\ndialogue = "bsmtp"', 4, 'route[0].dialogue', 'batch reader'],
  ['[[route]]\nmatch = ["*"]\nqueue = false\nhost = "a"\ndialogue = "bsmtp"', 5, 'route[0].dialogue', 'no reply'],
  ['[[route]]\nmatch = ["*"]\nqueue = false\nsmarthost = "smtps://h"', 3, 'route[0].queue', 'only with a host'],
  ['[[route]]\nmatch = ["*"]\nhost = "a"\npassword_file = "p"', 4, 'route[0].password_file', 'smarthost'],
  ['[[forward]]\nlisten = "0.0.0.0:1"\nhost = "a"\nto = "tcp:b:1"', 2, 'forward[0].listen', 'expose = true'],
  ['[[forward]]\nlisten = "127.0.0.1:1"\nto = "tcp:b:1"', 1, 'forward[0].host', 'is missing'],
  [
    '[smtp]\nlisten = ["127.0.0.1:25"]\n[[reverse]]\nhost = "a"\nlisten = "2525"\nto = "localhost:25"',
    6,
    'reverse[0].to',
    'own listeners',
  ],
  ['[[reverse]]\nhost = "a"\nlisten = "x"\nto = "127.0.0.1:25"', 3, 'reverse[0].listen', 'accepted:'],
  [
    '[[reverse]]\nhost = "a"\nlisten = "1"\nto = "127.0.0.1:25"\ndomains = ["-x"]',
    5,
    'reverse[0].domains[0]',
    'domain',
  ],
];

describe('a faulty file is refused with file, line, key and accepted values', () => {
  test.each(REFUSED)('%j', (text, line, key, says) => {
    const [first = ''] = refusal(text).split('\n');
    expect(first).toContain(`/etc/p/config.toml:${line}: ${key}`);
    expect(first).toContain(says);
  });

  test('all faults are told at once, in the order of the file', () => {
    expect(refusal('[smtp]\nx = 1\n[host.a]\ny = 2\n').split('\n')).toEqual([
      expect.stringContaining(':2: smtp.x: unknown key'),
      expect.stringContaining(':4: host.a.y: unknown key'),
    ]);
  });

  test("a smarthost's password is not repeated", () => {
    const text = refusal('[[route]]\nmatch = ["*"]\nsmarthost = "smtps://me:hunter2@mail.example.org"');
    expect(text).toContain('password_file');
    expect(text).not.toContain('hunter2');
  });
});
