/** `netcat localhost smtp` works in a gate as on a host: the name smtp stands for the port its server has. */
import { quote } from '@postern/core';
import type { GateContext } from './context.ts';
import type { Program } from './programs.ts';
import { writeScript } from './script.ts';

/**
 * `netcat` and `nc` for the far side. The gate has no root to hold port 25 with, so the service name `smtp` stands for the
 * port its SMTP server has: `netcat localhost smtp` works as it does on a real host.
 */
export async function writeNetcat(context: GateContext, program: Program, smtpPort: number | undefined): Promise<void> {
  const env = Object.entries(program.env).map(([name, value]) => `export ${name}=${quote(value)}`);
  // Each argument goes to the back of the list in turn, `smtp` replaced, until all have been seen once.
  const rename = [
    'for argument do',
    '  shift',
    `  [ "$argument" = smtp ] && argument=${smtpPort}`,
    '  set -- "$@" "$argument"',
    'done',
  ];
  const lines = [...env, ...(smtpPort === undefined ? [] : rename), `exec ${quote(program.command)} "$@"`];
  for (const name of ['netcat', 'nc']) await writeScript(context.bin, name, lines.join('\n'));
}
