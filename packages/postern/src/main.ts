import { readFileSync } from 'node:fs';
import { surroundings } from './paths.ts';
import { pipeWords } from './pipe/pipe-args.ts';

const forPipe = pipeWords(process.argv.slice(2));
// A pipe starts often and lives in other programs: it loads nothing it does not need, and its streams are its own.
if (forPipe !== undefined) await (await import('./pipe/command.ts')).pipeCommand(forPipe);
else await main();

async function main(): Promise<void> {
  const { runProgram } = await import('./cli/program.ts');
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };

  // A reader that has seen enough, as in `postern queue | head`, is no fault.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 74));

  const status = await runProgram({
    argv: process.argv.slice(2),
    surroundings: surroundings(),
    output: {
      out: (text) => void process.stdout.write(text),
      err: (text) => void process.stderr.write(text),
      outTty: process.stdout.isTTY === true,
      errTty: process.stderr.isTTY === true,
    },
    version,
  });
  // Written output first: pipes are asynchronous on some systems.
  process.stdout.write('', () => process.stderr.write('', () => process.exit(status)));
}
