/** Whether this process was called as sendmail, mailq or newaliases. */
import { basename } from 'node:path';
import type { SendmailProgram } from './args.ts';

/** A call that is for sendmail: as which program, and its words. */
export interface SendmailCall {
  readonly name: SendmailProgram;
  readonly words: readonly string[];
}

/** The words behind a call that is for sendmail, by the program's name or the subcommand's; undefined for any other call. */
export function sendmailWords(program: string, argv: readonly string[]): SendmailCall | undefined {
  const name = basename(program).replace(/\.js$/, '');
  if (name === 'sendmail' || name === 'mailq' || name === 'newaliases') return { name, words: argv };
  // Global options may stand before the subcommand.
  for (let at = 0; at < argv.length; at += 1) {
    const word = argv[at] ?? '';
    if (word === 'sendmail') return { name: 'sendmail', words: [...argv.slice(0, at), ...argv.slice(at + 1)] };
    if (word === '--config') at += 1;
    else if (word !== '--json' && !word.startsWith('--config=')) return undefined;
  }
  return undefined;
}
