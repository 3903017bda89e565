/** A target as people write it, and back: what one prints, the other reads. */
import type { Target } from './channel.ts';

/**
 * Reads a target as configuration writes it: `tcp:host:port`, `unix:/path`, `subsystem:name`, anything else a command.
 * Throws `RangeError` with what is wrong.
 */
export function parseTarget(text: string): Target {
  const [, scheme, rest] = /^(tcp|unix|subsystem):(.*)$/s.exec(text) ?? [];
  if (scheme === undefined || rest === undefined) {
    if (text.trim() === '') throw new RangeError('an empty command');
    return { type: 'exec', command: text };
  }
  if (scheme === 'unix') {
    if (!rest.startsWith('/')) throw new RangeError(`unix: needs an absolute path, not ${JSON.stringify(rest)}`);
    return { type: 'unix', path: rest };
  }
  if (scheme === 'subsystem') return { type: 'subsystem', name: rest };
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(rest) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || Number(port) < 1 || Number(port) > 65535) {
    throw new RangeError(`tcp: needs host:port with a port from 1 to 65535, not ${JSON.stringify(rest)}`);
  }
  return { type: 'tcp', host, port: Number(port) };
}

/** A target as a person writes it; the inverse of {@link parseTarget}. */
export function formatTarget(target: Target): string {
  switch (target.type) {
    case 'exec':
      return target.command;
    case 'tcp':
      return `tcp:${target.host.includes(':') ? `[${target.host}]` : target.host}:${target.port}`;
    case 'unix':
      return `unix:${target.path}`;
    case 'subsystem':
      return `subsystem:${target.name}`;
  }
}
