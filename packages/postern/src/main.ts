/** The `postern` command: decides how little has to be loaded. */
import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { surroundings } from './base/paths.ts';
import { pipeWords } from './pipe/request.ts';
import { sendmailWords } from './sendmail/call.ts';

const forPipe = pipeWords(process.argv.slice(2));
const forSendmail = sendmailWords(process.argv[1] ?? '', process.argv.slice(2));
// A pipe starts often and lives in other programs: it loads nothing it does not need, and its streams are its own.
if (forPipe !== undefined) await (await import('./pipe/command.ts')).pipeCommand(forPipe);
else await main();

async function main(): Promise<void> {
  // Keeps V8 from widening its young generation, which loading most modules does already: reading a long queue would widen it by 25 MB, as
  // nearly all of it survives, and it is never narrowed again (Node 20.20).
  setFlagsFromString('--semi-space-growth-factor=1');
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };

  // A reader that has seen enough, as in `postern queue | head`, is no fault.
  const broken = (error: NodeJS.ErrnoException): number => (error.code === 'EPIPE' ? 0 : 74);
  process.stdout.on('error', (error) => process.exit(broken(error)));

  const output = {
    out: (text: string) => void process.stdout.write(text),
    err: (text: string) => void process.stderr.write(text),
    outTty: process.stdout.isTTY === true,
    errTty: process.stderr.isTTY === true,
  };
  const given = { surroundings: surroundings(), output, version };
  const status =
    forSendmail === undefined
      ? await (await import('./cli/program.ts')).runProgram({ ...given, argv: process.argv.slice(2) })
      : await (await import('./sendmail/command.ts')).runSendmail({
          ...given,
          ...forSendmail,
          stdin: process.stdin,
          stdout: process.stdout,
        });
  // Written output first: pipes are asynchronous on some systems.
  process.stdout.write('', (error) => process.stderr.write('', () => process.exit(error ? broken(error) : status)));
}
