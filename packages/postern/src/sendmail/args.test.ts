import { describe, expect, test } from 'vitest';
import { PosternError } from '../base/errors.ts';
import { parseSendmailArgs, type SendmailProgram, type SendmailRequest, type SubmitRequest } from './args.ts';

const submit = (o: Partial<SubmitRequest>): SubmitRequest => ({
  type: 'submit',
  fromHeader: false,
  dotIsText: false,
  recipients: [],
  ...o,
});

/** As the programs named really call it. */
const CALLS: [who: string, argv: string, request: SendmailRequest][] = [
  [
    'cron',
    '-i -FCronDaemon -B8BITMIME -oem root',
    submit({ dotIsText: true, fullName: 'CronDaemon', recipients: ['root'] }),
  ],
  ['mutt', '-oem -oi -f me@x -- a@x b@x', submit({ dotIsText: true, sender: 'me@x', recipients: ['a@x', 'b@x'] })],
  [
    'mutt with DSN',
    '-oi -N failure,delay -R hdrs -- a@x',
    submit({ dotIsText: true, notify: ['FAILURE', 'DELAY'], ret: 'HDRS', recipients: ['a@x'] }),
  ],
  ['git send-email', '-f me@x -i a@x', submit({ dotIsText: true, sender: 'me@x', recipients: ['a@x'] })],
  ['bsd-mailx', '-i a@x', submit({ dotIsText: true, recipients: ['a@x'] })],
  ['PHP', '-t -i', submit({ fromHeader: true, dotIsText: true })],
  ['Nodemailer', '-i -f me@x a@x', submit({ dotIsText: true, sender: 'me@x', recipients: ['a@x'] })],
  ['at', '-i root', submit({ dotIsText: true, recipients: ['root'] })],
  ['joined letters', '-ti', submit({ fromHeader: true, dotIsText: true })],
  ['joined with a value', '-tifme@x', submit({ fromHeader: true, dotIsText: true, sender: 'me@x' })],
  ['-r as -f', '-rme@x a@x', submit({ sender: 'me@x', recipients: ['a@x'] })],
  ['null sender', '-f <> a@x', submit({ sender: '', recipients: ['a@x'] })],
  ['-o i apart', '-o i a@x', submit({ dotIsText: true, recipients: ['a@x'] })],
  [
    'ignored settings',
    '-O IgnoreDots=true -odb -oQ/x -X/dev/null -Am -G -U -n -v -Lx -h3 -p SMTP a@x',
    submit({ recipients: ['a@x'] }),
  ],
  ['envelope id', '-V id1 -N never a@x', submit({ envid: 'id1', notify: ['NEVER'], recipients: ['a@x'] })],
  ['dash address', '-i -- -dash@x', submit({ dotIsText: true, recipients: ['-dash@x'] })],
  ['-bm', '-bm a@x', submit({ recipients: ['a@x'] })],
  ['-bs', '-bs', { type: 'smtp' }],
  ['-b s', '-b s', { type: 'smtp' }],
  ['-bp', '-bp', { type: 'mailq' }],
  ['-bi', '-bi', { type: 'newaliases' }],
  ['-I', '-I', { type: 'newaliases' }],
  ['-q', '-q', { type: 'flush' }],
  ['-q with time', '-q15m', { type: 'flush' }],
  ['-qI', '-qIabc', { type: 'flush', id: 'abc' }],
  ['-qR', '-qRexample.org', { type: 'flush' }],
  ['mailq -q', '-bp -q', { type: 'flush' }],
];

describe('sendmail command lines', () => {
  test.each(CALLS)('%s: %s', (_who, argv, request) => {
    expect(parseSendmailArgs(argv.split(' ')).request).toEqual(request);
  });

  test.each<[SendmailProgram, string[], SendmailRequest]>([
    ['mailq', [], { type: 'mailq' }],
    ['mailq', ['-v'], { type: 'mailq' }],
    ['newaliases', [], { type: 'newaliases' }],
    ['newaliases', ['-oA/etc/aliases'], { type: 'newaliases' }],
  ])('as %s %j', (program, argv, request) => {
    expect(parseSendmailArgs(argv, program).request).toEqual(request);
  });

  test("Postern's own options stand among them", () => {
    expect(parseSendmailArgs(['--config', 'f', '--json', '-bp'])).toEqual({
      request: { type: 'mailq' },
      config: 'f',
      json: true,
    });
    expect(parseSendmailArgs(['-t', '--config=g'])).toEqual({
      request: submit({ fromHeader: true }),
      config: 'g',
      json: false,
    });
    expect(parseSendmailArgs(['--help']).request).toEqual({ type: 'help' });
  });

  test.each([
    ['', 'no recipients'],
    ['-i', 'no recipients'],
    ['-f', '-f needs a value'],
    ['-Z a@x', 'unknown option -Z'],
    ['--frob a@x', 'unknown option'],
    ['-bd', 'no daemon'],
    ['-bv a@x', 'not offered'],
    ['-bz', 'unknown mode'],
    ['-N sometimes a@x', '-N takes'],
    ['-N never,delay a@x', '-N takes'],
    ['a@x -t', 'after a recipient'],
  ])('%j is refused with 64', (argv, message) => {
    const call = (): unknown => parseSendmailArgs(argv.split(' ').filter(Boolean));
    expect(call).toThrow(PosternError);
    expect(call).toThrow(message);
    try {
      call();
    } catch (error) {
      expect((error as PosternError).status).toBe(64);
    }
  });
});
