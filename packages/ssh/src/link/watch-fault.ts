/** A fault that only a changed file can mend is tried again when that file has changed. */
import { stat } from 'node:fs/promises';
import type { Env } from '@postern/core';
import type { ResolvedHost } from '../host/resolved-host.ts';

/** How often the files a permanent fault hangs on are looked at, ms. */
export const FAULT_POLL_MS = 2_000;

/**
 * Calls `onChange` once when one of the files that decide over host key and authentication changes: known_hosts, key files, the
 * agent's socket, of the host and of its jump hosts. Polls, since the files may not exist yet and lie in many directories.
 */
export function watchFault(host: ResolvedHost, o: { env: Env; onChange: () => void }): Disposable {
  const paths = [...host.jump, host].flatMap(filesOf);
  let timer: Disposable | undefined;
  let ended = false;
  const look = async (before: string | undefined): Promise<void> => {
    const now = await snapshot(paths);
    if (ended) return;
    if (before !== undefined && now !== before) return o.onChange();
    timer = o.env.schedule(FAULT_POLL_MS, () => void look(now));
  };
  void look(undefined);
  return {
    [Symbol.dispose]() {
      ended = true;
      timer?.[Symbol.dispose]();
    },
  };
}

function filesOf(host: ResolvedHost): string[] {
  const keys = host.identityFiles.flatMap((path) => [path, `${path}.pub`]);
  return [
    ...host.userKnownHostsFiles,
    ...host.globalKnownHostsFiles,
    ...(host.revokedHostKeys === undefined ? [] : [host.revokedHostKeys]),
    ...keys,
    ...(host.identityAgent === undefined ? [] : [host.identityAgent]),
  ];
}

async function snapshot(paths: readonly string[]): Promise<string> {
  const seen = paths.map(async (path) => {
    const found = await stat(path).catch(() => undefined);
    return found === undefined ? '' : `${found.ino}:${found.size}:${found.mtimeMs}`;
  });
  return (await Promise.all(seen)).join('|');
}
