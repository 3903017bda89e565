import { EXIT_STATUS } from '../errors.ts';
import { leave, pipeProcess } from './main.ts';
import { parsePipeArgs } from './pipe-args.ts';

const HELP = `Usage: postern pipe HOST [imap|smtp]
       postern pipe HOST -- ARGV...    each argument quoted
       postern pipe HOST WORDS...      joined by spaces, as ssh does

Joins standard input and output to HOST over the running daemon's link, or over a link of its own when no daemon runs.
Ends with the far command's exit status, or 255.
`;

/** Runs `postern pipe` with the words behind it, and ends the process. */
export async function pipeCommand(words: readonly string[]): Promise<void> {
  const call = parsePipeArgs(words);
  if (call.type === 'help') {
    process.stdout.write(HELP);
    return leave(0);
  }
  const say = (status: number, code: string) => (message: string, fix?: string) => {
    const text = call.json
      ? JSON.stringify({ event: 'error', code, message, fix, status })
      : `postern: ${message}${fix === undefined ? '' : `\n  fix: ${fix}`}`;
    process.stderr.write(`${text}\n`);
  };
  if (call.type === 'error') {
    say(EXIT_STATUS.usage, 'usage')(call.message, 'postern pipe --help');
    return leave(EXIT_STATUS.usage);
  }
  const { host, want, config } = call;
  const configFile = config === undefined ? {} : { configFile: config };
  leave(await pipeProcess({ ask: { host, want }, ...configFile, say: say(255, 'unavailable') }));
}
