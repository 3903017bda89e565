import { execFileSync } from 'node:child_process';

/** The uid of a user of this machine, or undefined. Asks `id`, which knows LDAP and the like. */
export function lookupUser(name: string): number | undefined {
  if (name.startsWith('-') || name.includes('\0')) return undefined;
  try {
    const text = execFileSync('id', ['-u', '--', name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return /^\d+\n?$/.test(text) ? Number(text) : undefined;
  } catch {
    return undefined;
  }
}
