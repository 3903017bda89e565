/** The programs that sshd starts for a connection, for an sshd that does not lie where it was compiled for. */
import { join } from 'node:path';
import { executable, type Program } from './programs.ts';
import { run } from './run.ts';

/** Keyword of sshd_config → program. OpenSSH 9.8 split sshd-session off, 10.0 sshd-auth. */
const HELPERS = { SshdSessionPath: 'sshd-session', SshdAuthPath: 'sshd-auth' } as const;
const DIRS = ['usr/lib/openssh', 'usr/libexec/openssh', 'usr/libexec', 'usr/lib/ssh'];

/**
 * Lines of sshd_config that name the helpers beside an unpacked sshd; none for an installed one, and none that this sshd does not know: it refuses to
 * start over an unknown keyword, so it is asked.
 */
export async function helperLines(program: Program): Promise<string[]> {
  if (program.root === '/') return [];
  const lines: string[] = [];
  for (const [keyword, name] of Object.entries(HELPERS)) {
    const path = await firstExecutable(DIRS.map((dir) => join(program.root, dir, name)));
    if (path !== undefined && (await knows(program, `${keyword}=${path}`))) lines.push(`${keyword} ${path}`);
  }
  return lines;
}

async function firstExecutable(paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) {
    if (await executable(path)) return path;
  }
  return undefined;
}

async function knows(program: Program, option: string): Promise<boolean> {
  const { stderr } = await run(program.command, ['-T', '-f', '/dev/null', '-o', option], { env: program.env });
  return !/bad configuration option|unsupported option/i.test(stderr);
}
