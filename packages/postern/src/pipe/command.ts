import { printableJson } from '@postern/core';
import { PosternError } from '../errors.ts';
import { leave, pipeProcess } from './main.ts';
import { parsePipeArgs } from './pipe-args.ts';
import { SSH_FAULT } from './run.ts';

const HELP = `Usage: postern pipe HOST [imap|smtp]
       postern pipe HOST -- ARGV...    each argument quoted
       postern pipe HOST WORDS...      joined by spaces, as ssh does

Joins standard input and output to HOST over the running daemon's link, or over a link of its own when no daemon runs.
Ends with the far command's exit status; 255 when there is none, 78 for a configuration that cannot be used.
`;

/** Runs `postern pipe` with the words behind it, and ends the process. */
export async function pipeCommand(words: readonly string[]): Promise<void> {
  const call = parsePipeArgs(words);
  if (call.type === 'help') {
    process.stdout.write(HELP);
    return leave(0);
  }
  const say = (message: string, fix?: string, error?: unknown): number => {
    const { code, status } = error instanceof PosternError ? error : { code: 'unavailable', status: SSH_FAULT };
    const text = call.json
      ? printableJson({ event: 'error', code, message, fix, status })
      : `postern: ${message}${fix === undefined ? '' : `\n  fix: ${fix}`}`;
    process.stderr.write(`${text}\n`);
    return status;
  };
  if (call.type === 'error') {
    const fault = new PosternError('usage', call.message, { fix: 'postern pipe --help' });
    return leave(say(fault.message, fault.fix, fault));
  }
  const { host, want, config } = call;
  const configFile = config === undefined ? {} : { configFile: config };
  leave(await pipeProcess({ ask: { host, want }, ...configFile, say }));
}
