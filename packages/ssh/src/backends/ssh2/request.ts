/** A channel is asked for by its target, and a refusal says by its reason what stands against it. */
import { LinkError, type Target } from '@postern/core';
import type { Client, ClientChannel } from 'ssh2';

/** Whether a channel counts against MaxSessions. */
export function isSession(target: Target): boolean {
  return target.type === 'exec' || target.type === 'subsystem';
}

/** Asks for a channel; throws when the client is dead. */
export function requestChannel(
  client: Client,
  target: Target,
  opened: (error: Error | undefined, raw: ClientChannel) => void,
): void {
  switch (target.type) {
    case 'exec':
      client.exec(target.command, opened);
      return;
    case 'subsystem':
      client.subsys(target.name, opened);
      return;
    case 'tcp':
      client.forwardOut('127.0.0.1', 0, target.host, target.port, opened);
      return;
    case 'unix':
      client.openssh_forwardOutStreamLocal(target.path, opened);
  }
}

/** What a refused channel means. Reasons of RFC 4254 §5.1. sshd uses 2 for a session beyond MaxSessions, and for a forward nobody answers. */
export function refusal(target: Target, error: Error & { reason?: unknown }): LinkError {
  const said = error.message.replace(/^\(SSH\) Channel open failure: /, '');
  if (error.reason === 4 || (error.reason === 2 && isSession(target))) {
    return new LinkError(`the far sshd opens no further session on this connection (MaxSessions): ${said}`, {
      code: 'channel-limit',
      layer: 'channel',
      cause: error,
    });
  }
  return new LinkError(refusalText(target, said, error.reason), {
    code: 'channel-refused',
    layer: 'channel',
    cause: error,
  });
}

function refusalText(target: Target, said: string, reason: unknown): string {
  switch (target.type) {
    case 'exec':
      return `the far sshd does not run commands for this user: ${said}`;
    case 'subsystem':
      return `the far sshd has no subsystem ${target.name}: ${said}`;
    case 'tcp': {
      const where = `${target.host}:${target.port}`;
      if (reason === 1) return `the far sshd forbids connections to ${where} (AllowTcpForwarding, PermitOpen): ${said}`;
      return `the far side cannot connect to ${where}: ${said}`;
    }
    case 'unix':
      if (reason === 1) return `the far sshd forbids connections to sockets (AllowStreamLocalForwarding): ${said}`;
      return `the far side cannot connect to ${target.path}: ${said}`;
  }
}

/** A client's error in words. */
export function explain(error: Error & { code?: unknown }): string {
  if (error.code === 'ECONNRESET') return 'the connection was reset';
  if (error.code === 'ETIMEDOUT') return 'the network gave up on it';
  return error.message;
}
