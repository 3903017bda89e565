/** `postern-ssh`: a lent link under ssh's own command line, for programs that want to be given an ssh. */
import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import type { PipeAsk } from '../pipe/request.ts';
import { LOGIN_SHELL } from '../pipe/request.ts';
import { parseSshArgs, type SshRun } from './args.ts';

const USAGE =
  'usage: postern-ssh [-qvnTxas46AC] [-l user] [-p port] [-o option] [-i key] [-F file] [-J hop] [-W host:port] destination [command]';
/** What ssh ends with when it did not come to run anything. */
const FAULT = 255;

const say = (line: string): void => void process.stderr.write(`postern-ssh: ${line}\n`);

/** What only ssh itself can answer (`-G`, `-Q`) is asked of it. Without one, success: git takes that for "this is an ssh". */
function askSsh(argv: readonly string[]): void {
  const child = spawn('ssh', argv, { stdio: 'inherit' });
  child.once('error', () => process.exit(0));
  child.once('exit', (code) => process.exit(code ?? FAULT));
}

/** File names are made absolute: a daemon has another working directory. */
function absolute(option: string): string {
  const [, key, file] =
    /^((?:identity|userknownhosts|globalknownhosts|certificate)file\s*[=\s]\s*)(\S.*)$/i.exec(option) ?? [];
  return key === undefined || file === undefined || /^[/~%$"]|^none$/.test(file) ? option : key + resolve(file);
}

function askOf(call: SshRun): PipeAsk {
  const { destination, target, linkArgs, configFile, timeoutSeconds } = call;
  return {
    ...destination,
    want: target === undefined ? LOGIN_SHELL : { type: 'target', target },
    ...(linkArgs.length === 0 ? {} : { sshArgs: linkArgs.map(absolute) }),
    ...(configFile === undefined ? {} : { configFile: configFile === 'none' ? 'none' : resolve(configFile) }),
    ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }),
  };
}

async function run(call: SshRun): Promise<void> {
  const { leave, pipeProcess } = await import('../pipe/command.ts');
  if (!call.quiet) for (const warning of call.warnings) say(warning);
  if (call.verbose) for (const note of call.notes) say(note);
  const status = await pipeProcess({
    ask: askOf(call),
    emptyInput: call.emptyInput,
    say: (line, fix) => {
      if (!call.quiet) say(fix === undefined ? line : `${line}\n  fix: ${fix}`);
      return FAULT;
    },
    ...(call.verbose ? { tell: say } : {}),
  });
  leave(status);
}

const argv = process.argv.slice(2);
const call = parseSshArgs(argv);
switch (call.type) {
  case 'run':
    await run(call);
    break;
  case 'settings':
  case 'query':
    askSsh(argv);
    break;
  case 'version':
    say('ssh over a lent link');
    break;
  case 'error':
    say(call.message);
    if (call.usage) process.stderr.write(`${USAGE}\n`);
    process.exitCode = FAULT;
}
