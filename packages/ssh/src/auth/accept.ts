/** A key is written to known_hosts where the host was unknown, and nowhere else. */
import { type Env, LinkError } from '@postern/core';
import { dialHost } from '../backends/auto.ts';
import type { ResolvedHost } from '../host/resolved-host.ts';
import type { AcceptedKey } from './host-key.ts';

/**
 * Connects to a host and appends the keys that it and its jump hosts prove to hold to the user's known_hosts, each only where the
 * host was unknown. Yields what was written, `[]` when all were known. Rejects with a `LinkError` when a key has changed or is
 * revoked, or the host is not reached; an authentication that fails is no matter. For a person who has compared the fingerprint.
 */
export async function acceptNewHostKey(
  host: ResolvedHost,
  o: { env: Env; signal: AbortSignal },
): Promise<readonly AcceptedKey[]> {
  const accepted: AcceptedKey[] = [];
  try {
    const connection = await dialHost(host, {
      ...o,
      link: host.host,
      acceptNewHostKey: true,
      onProgress: (news) => news.type === 'accepted' && accepted.push(news.key),
    });
    await connection.end();
  } catch (error) {
    const isLast = error instanceof LinkError && error.hop === undefined && error.layer === 'auth';
    if (!isLast) throw error;
  }
  return accepted;
}
