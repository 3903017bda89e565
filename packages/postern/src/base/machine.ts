/** What this machine says of itself and its users. */
import { execFileSync } from 'node:child_process';
import { hostname } from 'node:os';

/**
 * The name to greet SMTP servers with (RFC 5321 §4.1.4): this machine's full name, else an address literal. A bare name is refused by servers that ask for a full
 * one, at every recipient.
 */
export function heloName(): string {
  known ??= [localHostname(), fullHostname()].find((name) => name.includes('.')) ?? '[127.0.0.1]';
  return known;
}

/** The resolver is asked once. */
let known: string | undefined;

/** As the resolver completes it; empty where it does not. */
function fullHostname(): string {
  try {
    const said = execFileSync('hostname', ['-f'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: 2000,
    });
    const name = said.trim().toLowerCase();
    return /^[a-z0-9-]+(\.[a-z0-9-]+)+$/.test(name) && !name.startsWith('localhost.') ? name : '';
  } catch {
    return '';
  }
}

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

/** This machine's name for greetings, `Received:` and Message-ID; `localhost` where it has none fit for SMTP (RFC 5321 §2.3.5). */
export function localHostname(): string {
  const name = hostname().toLowerCase();
  return /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/.test(name) ? name : 'localhost';
}
