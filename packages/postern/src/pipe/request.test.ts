import { describe, expect, it } from 'vitest';
import type { Want } from './request.ts';
import { LOGIN_SHELL, type PipeCall, parsePipeArgs, pipeWords } from './request.ts';

const exec = (command: string): Want => ({ type: 'target', target: { type: 'exec', command } });
const pipe = (want: Want, o: Partial<PipeCall> = {}): unknown => ({
  type: 'pipe',
  host: 'gate',
  json: false,
  want,
  ...o,
});

const CALLS: readonly [string, readonly string[], unknown][] = [
  ['the far imapd', ['gate', 'imap'], pipe({ type: 'imap' })],
  ['the far SMTP', ['gate', 'smtp'], pipe({ type: 'smtp' })],
  ['a command that is called imap', ['gate', '--', 'imap'], pipe(exec('imap'))],
  ['imap with arguments is a command', ['gate', 'imap', '-v'], pipe(exec('imap -v'))],
  ['words joined by spaces', ['gate', 'echo', '$HOME', 'a  b'], pipe(exec('echo $HOME a  b'))],
  ['arguments quoted each', ['gate', '--', 'echo', '$HOME', "it's", ''], pipe(exec(`echo '$HOME' 'it'\\''s' ''`))],
  ['a far -- behind words', ['gate', 'grep', '--', '-x'], pipe(exec('grep -- -x'))],
  ['far options', ['gate', 'ls', '-l', '--json'], pipe(exec('ls -l --json'))],
  ['a login shell', ['gate'], pipe(LOGIN_SHELL)],
  [
    'global options before the host',
    ['--json', '--config', 'f', 'gate', 'id'],
    pipe(exec('id'), { json: true, config: 'f' } as never),
  ],
  [
    'global options behind the host',
    ['gate', '--config=f', 'imap', '--json'],
    pipe({ type: 'imap' }, { json: true, config: 'f' } as never),
  ],
  ['help', ['--help'], { type: 'help' }],
  ['no host', [], { type: 'error', message: 'pipe needs a HOST', json: false }],
  ['an option that is none', ['--json', '-l', 'gate'], { type: 'error', message: 'unknown option -l', json: true }],
  ['-- with nothing', ['gate', '--'], { type: 'error', message: '-- needs a command behind it', json: false }],
];

describe('postern pipe', () => {
  it.each(CALLS)('reads %s', (_, words, call) => expect(parsePipeArgs(words)).toEqual(call));

  it.each([
    [
      ['pipe', 'gate', 'pipe'],
      ['gate', 'pipe'],
    ],
    [
      ['--config', 'pipe', 'pipe', 'gate'],
      ['--config', 'pipe', 'gate'],
    ],
    [
      ['--json', 'pipe', '--json'],
      ['--json', '--json'],
    ],
    [['queue', 'pipe'], undefined],
    [['--config', 'pipe'], undefined],
    [[], undefined],
  ])('is found in %j', (argv, words) => expect(pipeWords(argv)).toEqual(words));
});
