import { describe, expect, it } from 'vitest';
import { parseSshArgs, type SshCall, type SshRun } from './args.ts';
import { OPTION_MEANINGS, splitOption } from './options.ts';

const BLANK: SshRun = {
  type: 'run',
  destination: { host: 'gate' },
  target: undefined,
  linkArgs: [],
  emptyInput: false,
  quiet: false,
  verbose: false,
  notes: [],
  warnings: [],
};
const run = (o: Partial<SshRun>): SshRun => ({ ...BLANK, ...o });
const exec = (command: string): SshRun['target'] => ({ type: 'exec', command });

const CALLS: readonly [string, readonly string[], SshCall][] = [
  ['a host alone is a login shell', ['gate'], BLANK],
  ['words are joined by spaces, not quoted', ['gate', 'ls', 'a  b', '*'], run({ target: exec('ls a  b *') })],
  ['options of the command are its own', ['gate', 'ls', '-l', '-p'], run({ target: exec('ls -l -p') })],
  ['user@host', ['me@gate', 'id'], run({ destination: { host: 'gate', user: 'me' }, target: exec('id') })],
  ['the last @ parts user and host', ['a@b@gate'], run({ destination: { host: 'gate', user: 'a@b' } })],
  ['-l wins over user@', ['-l', 'you', 'me@gate'], run({ destination: { host: 'gate', user: 'you' } })],
  [
    '-l behind the host, as cvs puts it',
    ['gate', '-l', 'me', 'cvs server'],
    run({ destination: { host: 'gate', user: 'me' }, target: exec('cvs server') }),
  ],
  ['user@ wins over -l behind it', ['me@gate', '-l', 'you'], run({ destination: { host: 'gate', user: 'me' } })],
  [
    'values attached or apart',
    ['-p2222', '-lme', 'gate'],
    run({ destination: { host: 'gate', user: 'me', port: 2222 } }),
  ],
  ['the first -p wins', ['-p', '1', '-p', '2', 'gate'], run({ destination: { host: 'gate', port: 1 } })],
  [
    'flags in one word, the last with a value',
    ['-xaTqnp', '22', 'gate'],
    run({ destination: { host: 'gate', port: 22 }, quiet: true, emptyInput: true }),
  ],
  ['a flag that takes the rest of its word', ['-Tlme', 'gate'], run({ destination: { host: 'gate', user: 'me' } })],
  ['-- ends options for good', ['--', 'gate', '-l', 'x'], run({ target: exec('-l x') })],
  ['-- behind the host ends them as well', ['gate', '-q', '--', '-x'], run({ quiet: true, target: exec('-x') })],
  ['a host may start with - only for whoever checks it', ['--', '-gate'], run({ destination: { host: '-gate' } })],
  [
    'ssh:// with all its parts',
    ['ssh://me@gate:2222', 'id'],
    run({ destination: { host: 'gate', user: 'me', port: 2222 }, target: exec('id') }),
  ],
  ['ssh:// with an IPv6 address', ['ssh://[::1]:2222/'], run({ destination: { host: '::1', port: 2222 } })],
  ['ssh:// with an encoded user', ['ssh://m%40x@gate'], run({ destination: { host: 'gate', user: 'm@x' } })],
  ['a lone dash is a host', ['-'], run({ destination: { host: '-' } })],
  ['-s makes the command a subsystem', ['-s', 'gate', 'sftp'], run({ target: { type: 'subsystem', name: 'sftp' } })],
  ['-W', ['-W', 'imap.local:143', 'gate'], run({ target: { type: 'tcp', host: 'imap.local', port: 143 } })],
  ['-W with an IPv6 address', ['-W[::1]:143', 'gate'], run({ target: { type: 'tcp', host: '::1', port: 143 } })],
  ['-W with a socket', ['-W', '/run/s', 'gate'], run({ target: { type: 'unix', path: '/run/s' } })],
  [
    '-W of a jump, with what ssh adds',
    ['-l', 'me', '-p', '22', '-vv', '-W', '[gate]:22', 'bastion'],
    run({
      destination: { host: 'bastion', user: 'me', port: 22 },
      verbose: true,
      target: { type: 'tcp', host: 'gate', port: 22 },
    }),
  ],
  [
    'sftp of OpenSSH 9.2',
    [
      '-oForwardX11 no',
      '-oPermitLocalCommand no',
      '-oClearAllForwardings yes',
      '-oForwardAgent no',
      '-l',
      'me',
      '-s',
      '--',
      'gate',
      'sftp',
    ],
    run({ destination: { host: 'gate', user: 'me' }, target: { type: 'subsystem', name: 'sftp' } }),
  ],
  [
    'scp of OpenSSH 9.2',
    [
      '-x',
      '-oPermitLocalCommand=no',
      '-oClearAllForwardings=yes',
      '-oRemoteCommand=none',
      '-oRequestTTY=no',
      '-oForwardAgent=no',
      '-oPort 2222',
      '-s',
      '--',
      'gate',
      'sftp',
    ],
    run({ destination: { host: 'gate', port: 2222 }, target: { type: 'subsystem', name: 'sftp' } }),
  ],
  [
    'git',
    ['-o', 'SendEnv=GIT_PROTOCOL', '-p', '2222', 'me@gate', "git-upload-pack 'a b.git'"],
    run({ destination: { host: 'gate', user: 'me', port: 2222 }, target: exec("git-upload-pack 'a b.git'") }),
  ],
  ['git, asking whether this is an ssh', ['-G', '-p', '22', 'gate'], { type: 'settings' }],
  [
    'rsync',
    ['-l', 'me', 'gate', 'rsync', '--server', '-logDtpre.iLsfxCIvu', '.', 'dir'],
    run({ destination: { host: 'gate', user: 'me' }, target: exec('rsync --server -logDtpre.iLsfxCIvu . dir') }),
  ],
  [
    'what shapes the link goes to ssh -G as it came',
    ['-i', 'key', '-Jbastion', '-oHostName=x', '-4', '-F', 'cfg', 'gate'],
    run({
      linkArgs: ['-o', 'IdentityFile=key', '-o', 'ProxyJump=bastion', '-o', 'HostName=x', '-o', 'AddressFamily=inet'],
      configFile: 'cfg',
    }),
  ],
  [
    '-o User, Port and ConnectTimeout',
    ['-oUser=me', '-o', 'port = 2222', '-oconnecttimeout 7', 'gate'],
    run({ destination: { host: 'gate', user: 'me', port: 2222 }, timeoutSeconds: 7 }),
  ],
  ['-o LogLevel', ['-oLogLevel=QUIET', 'gate'], run({ quiet: true })],
  [
    'the first value of a keyword counts',
    ['-oConnectTimeout=1', '-oConnectTimeout=2', 'gate'],
    run({ timeoutSeconds: 1 }),
  ],
  ['weaker host key checks are taken and not obeyed', ['-oStrictHostKeyChecking=no', 'gate'], run({})],
  [
    'a terminal is not to be had, and that is said',
    ['-tt', 'gate', 'id'],
    run({
      target: exec('id'),
      warnings: ['no terminal is given: a lent channel has none'],
    }),
  ],
  ['-A is not given, and -v tells', ['-Av', 'gate'], run({ verbose: true, notes: ['the agent is not forwarded'] })],
  ['-V', ['-V'], { type: 'version' }],
  ['-Q', ['-Q', 'cipher'], { type: 'query' }],
];

const REFUSED: readonly [string, readonly string[], RegExp, boolean][] = [
  ['no destination', ['-v'], /no destination/, true],
  ['an empty user', ['@gate'], /not a destination/, true],
  ['an option that is none', ['-z', 'gate'], /unknown option -- z/, true],
  ['a name of Object.prototype', ['-_', 'gate'], /unknown option/, true],
  ['a value that is missing', ['-p'], /requires an argument -- p/, true],
  ['a port out of range', ['-p', '65536', 'gate'], /Bad port '65536'/, false],
  ['ssh:// without a host', ['ssh://:22'], /not a destination/, true],
  ['-L', ['-L', '1:a:2', 'gate'], /-L is not given by a lent link; use \[\[forward\]\]/, false],
  ['-R behind the host', ['gate', '-R', '1:a:2'], /-R/, false],
  ['-oLocalForward', ['-oLocalForward=1 a:2', 'gate'], /localforward/, false],
  ['-f', ['-f', 'gate', 'sleep 9'], /background/, false],
  ['-N', ['-N', 'gate'], /-N/, false],
  ['-W with a command', ['-W', 'a:1', 'gate', 'id'], /-W takes no command/, false],
  ['-W with nonsense', ['-W', 'a', 'gate'], /stdio forwarding/, false],
  ['-s without a name', ['-s', 'gate'], /subsystem/, false],
  ['an unknown keyword', ['-oFoo=bar', 'gate'], /Bad configuration option: foo/, false],
  ['a keyword without value', ['-oPort', 'gate'], /missing argument/, false],
  ['RemoteCommand', ['-oRemoteCommand=id', 'gate'], /command line/, false],
];

describe('a command line of ssh', () => {
  it.each(CALLS)('is read: %s', (_, argv, call) => expect(parseSshArgs(argv)).toEqual(call));

  it.each(REFUSED)('is refused: %s', (_, argv, message, usage) => {
    expect(parseSshArgs(argv)).toEqual({ type: 'error', message: expect.stringMatching(message), usage });
  });

  it('may turn forwards off', () => {
    expect(parseSshArgs(['-oTunnel=no', '-oForkAfterAuthentication=no', 'gate'])).toEqual(BLANK);
  });
});

describe('-o', () => {
  it.each([
    ['Port=22', 'port', '22'],
    [' Port = 22 ', 'port', '22'],
    ['Port 22', 'port', '22'],
    ['ProxyCommand=nc -x a=b %h', 'proxycommand', 'nc -x a=b %h'],
    ['IdentityFile "a b"', 'identityfile', 'a b'],
  ])('splits %j', (text, keyword, value) => expect(splitOption(text)).toEqual({ keyword, value }));

  it('gives every keyword one meaning', () => {
    expect(OPTION_MEANINGS.get('hostname')).toBe('link');
    expect(OPTION_MEANINGS.get('tunnel')).toBe('refused');
    expect(OPTION_MEANINGS.has('')).toBe(false);
  });
});
