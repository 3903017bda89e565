/** Seconds a final reply may take (RFC 5321 §4.5.3.2.6: ten minutes). */
const FINAL_REPLY_SECONDS = 600;

/**
 * What is wrong with the options of a far `nc` in a command: `-w N` ends the session when a reply takes longer than N seconds, `-q 0` ends
 * it before the last replies are read. One sentence each, none when all is well or it is no netcat.
 */
export function netcatWarnings(command: string): string[] {
  const words = command.trim().split(/\s+/);
  const start = words.findIndex((word) => /(^|\/)(nc|netcat|ncat)(\.\w+)?$/.test(word));
  if (start < 0) return [];
  const warnings: string[] = [];
  const options = words.slice(start + 1);
  for (const [index, word] of options.entries()) {
    const [, cluster, letter, attached] = /^-([A-Za-pr-vx-z0-9]*)([wq])(-?\d*)$/.exec(word) ?? [];
    if (cluster === undefined || letter === undefined) continue;
    const value = Number(attached === '' || attached === undefined ? options[index + 1] : attached);
    if (letter === 'w' && value < FINAL_REPLY_SECONDS) {
      warnings.push(
        `\`-w ${value}\` hangs up when a reply takes longer than ${value} s; SMTP allows ${FINAL_REPLY_SECONDS} s (leave it out)`,
      );
    }
    if (letter === 'q' && value === 0) warnings.push('`-q 0` hangs up before the last replies are read (leave it out)');
  }
  return warnings;
}
