/** The command line: every subcommand, its options and its help; what a command needs is loaded when it runs. */
import { printableJson } from '@postern/core';
import { Command, CommanderError, Option } from 'commander';
import { PosternError } from '../base/errors.ts';
import type { Surroundings } from '../base/paths.ts';
import type { LogFormat } from '../daemon/log.ts';
import type { QueueVerb } from '../queue/change.ts';
import type { Context, GlobalOptions, Output } from './context.ts';

/** What a run of the command is given. */
export interface ProgramOptions {
  /** Without the interpreter and the script. */
  readonly argv: readonly string[];
  readonly surroundings: Surroundings;
  readonly output: Output;
  readonly version: string;
}

/** What a command does; a number it resolves with is the exit status. */
type Action = (context: Context) => unknown;

/** Runs one `postern` command line to its end and resolves with its exit status (see `EXIT_STATUS`). Never rejects. */
export async function runProgram(o: ProgramOptions): Promise<number> {
  let status = 0;
  const program = build(o, (code) => {
    status = code;
  });
  try {
    await program.parseAsync([...o.argv], { from: 'user' });
    return status;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    return complain(error, o);
  }
}

/** One sentence on stderr, the fix on the next line; with `--json` one object. Returns the exit status. */
function complain(error: unknown, o: ProgramOptions): number {
  const told = asPosternError(error);
  const dashes = o.argv.indexOf('--');
  const json = o.argv.slice(0, dashes < 0 ? undefined : dashes).includes('--json');
  if (json) {
    const { code, message, fix, status } = told;
    o.output.err(`${printableJson({ event: 'error', code, message, fix, status })}\n`);
  } else {
    o.output.err(`postern: ${told.message}\n${told.fix === undefined ? '' : `  fix: ${told.fix}\n`}`);
  }
  return told.status;
}

function asPosternError(error: unknown): PosternError {
  if (error instanceof PosternError) return error;
  if (error instanceof CommanderError) {
    const message = error.message
      .replace(/^error: /, '')
      .replace(/\n+/g, ' ')
      .trim();
    const said = error.code === 'commander.help' ? 'a command is missing' : message;
    return new PosternError('usage', said, { fix: 'postern --help' });
  }
  const message = error instanceof Error ? error.message : String(error);
  return new PosternError('software', `a fault of Postern itself: ${message}`, { cause: error });
}

function build(o: ProgramOptions, end: (status: number) => void): Command {
  const program = new Command('postern');
  program
    .description('Mail through the door you already own: IMAP and SMTP over SSH.')
    .version(o.version)
    .exitOverride()
    .configureOutput({ writeOut: o.output.out, writeErr: () => {}, outputError: () => {} })
    .helpCommand(true)
    .addOption(new Option('--config <file>', 'configuration file instead of the usual one'))
    .addOption(new Option('--json', 'JSON instead of text'));
  const run = async (action: Action): Promise<void> => {
    const { config, json } = program.opts<{ config?: string; json?: boolean }>();
    const options: GlobalOptions = { ...(config === undefined ? {} : { config }), json: json === true };
    const result = await action({ surroundings: o.surroundings, output: o.output, options });
    end(typeof result === 'number' ? result : 0);
  };
  addDaemonCommands(program, run);
  addQueueCommands(program, run);
  addOtherCommands(program, run);
  return program;
}

type Run = (action: Action) => Promise<void>;

function addDaemonCommands(program: Command, run: Run): void {
  program
    .command('up')
    .description('serve mail clients through HOST until ended')
    .argument('[host...]', 'hosts as given to ssh')
    .option('--imap <address>', 'where mail readers connect, instead of 127.0.0.1:1143')
    .option('--smtp <address>', 'where mail is taken, instead of 127.0.0.1:1025')
    .addOption(
      new Option('--log-format <format>', 'how the log looks; journal under systemd').choices([
        'text',
        'json',
        'journal',
      ]),
    )
    .action((hosts: string[], flags: { imap?: string; smtp?: string; logFormat?: LogFormat }) =>
      run(async (context) => (await import('./up.ts')).up(context, { hosts, ...flags })),
    );
  program
    .command('check')
    .description('try each layer in turn and tell the fix for the first that fails')
    .argument('[host...]', 'hosts as given to ssh; without one, those of the configuration')
    .option('--accept-new-host-key', 'write the keys of unknown hosts to known_hosts')
    .action((hosts: string[], flags: { acceptNewHostKey?: boolean }) =>
      run(async (context) =>
        (await import('./check.ts')).check(context, { hosts, acceptNewHostKey: flags.acceptNewHostKey === true }),
      ),
    );
  program
    .command('status')
    .description('links, sessions and queue of the running daemon')
    .option('--watch', 'look again every two seconds')
    .action((flags: { watch?: boolean }) =>
      run(async (context) => (await import('./status.ts')).status(context, { watch: flags.watch === true })),
    );
}

function addQueueCommands(program: Command, run: Run): void {
  const queue = program.command('queue').description('mail that waits');
  queue
    .command('list', { isDefault: true })
    .description('every entry')
    .action(() => run(async (context) => (await import('./queue.ts')).queueList(context)));
  queue
    .command('show')
    .description('one entry')
    .argument('<id>')
    .action((id: string) => run(async (context) => (await import('./queue.ts')).queueShow(context, id)));
  queue
    .command('flush')
    .description('try now: everything, one entry, or what goes through a host')
    .argument('[id|host]')
    .action((what?: string) => run(async (context) => (await import('./queue.ts')).queueFlush(context, what)));
  const changes: readonly [QueueVerb, string][] = [
    ['hold', 'keep an entry until it is released'],
    ['release', 'let a held entry go'],
    ['remove', 'forget an entry, with no bounce'],
  ];
  for (const [verb, description] of changes) {
    queue
      .command(verb)
      .description(description)
      .argument('<id>')
      .action((id: string) => run(async (context) => (await import('./queue.ts')).queueChange(context, verb, id)));
  }
}

function addOtherCommands(program: Command, run: Run): void {
  // Named here for the help alone: `pipe` is run before any of this is loaded.
  program
    .command('pipe')
    .description('standard input and output over the link: HOST imap, HOST smtp, HOST -- ARGV..., HOST WORDS...')
    .argument('<host>')
    .argument('[words...]');
  // Likewise: its options are sendmail's own.
  program
    .command('sendmail')
    .description('take a message on standard input, as sendmail does: -t -i -f -F -bs -bp -q')
    .argument('[words...]');
  program
    .command('setup')
    .description('the lines to paste into a mail client or MTA; without one, which there are')
    .argument('[client]')
    .argument('[host]')
    .action((client: string | undefined, host: string | undefined) =>
      run(async (context) => (await import('./setup.ts')).setup(context, { client, host })),
    );
  program
    .command('service')
    .description('the service that starts postern at login: print, install, remove')
    .argument('[action]', '', 'print')
    .argument('[host...]', 'hosts for `up`; without one, those of the configuration')
    .action((action: string, hosts: string[]) =>
      run(async (context) => (await import('./service.ts')).service(context, { action, hosts })),
    );
  program
    .command('route')
    .description('which route each address takes, and why')
    .option('--from <address>', 'reverse-path', '')
    .argument('<address...>')
    .action((addresses: string[], flags: { from: string }) =>
      run(async (context) => (await import('./route.ts')).route(context, { addresses, from: flags.from })),
    );
  program
    .command('password')
    .description('the local password, for clients that same-user does not cover')
    .option('--rotate', 'make a new one')
    .action((flags: { rotate?: boolean }) =>
      run(async (context) => (await import('./password.ts')).password(context, { rotate: flags.rotate === true })),
    );
  program
    .command('demo')
    .description('a throwaway sshd, imapd and SMTP server on loopback, and a tour of it')
    .option('--once', 'end after the tour')
    .action((flags: { once?: boolean }) =>
      run(async (context) => (await import('./demo.ts')).demo(context, { once: flags.once === true })),
    );
}
