import { type Channel, deadline, type Env, type Link, LinkError, type Target } from '@postern/core';
import type { Imapd } from '@postern/imap';
import type { Want } from './ask.ts';

/** How long a link that is down is waited for when nothing else is said, milliseconds; the same as for a login. */
export const LINK_WAIT_MS = 20_000;

/** What a channel is opened with. */
export interface OpenOptions {
  readonly env: Env;
  readonly signal: AbortSignal;
  readonly waitMs: number;
}

/** Opens what is wanted of a host. Rejects with `LinkError`, `ImapError` or the signal's reason. */
export async function openWant(
  want: Want,
  host: { readonly link: Link; readonly imapd: Imapd; readonly smtp: Target },
  o: OpenOptions,
): Promise<Channel> {
  if (want.type !== 'imap') return openWithin(host.link, want.type === 'smtp' ? host.smtp : want.target, o);
  const { session } = await host.imapd.take({ signal: o.signal });
  session.channel.stream.unshift(session.greeting);
  return session.channel;
}

/** Opens a channel, dialling at once when the link is down, and gives up after `waitMs`. */
async function openWithin(link: Link, target: Target, o: OpenOptions): Promise<Channel> {
  if (link.state.type === 'down') link.wake('login');
  using limit = deadline(o.env, o.waitMs, { parent: o.signal, reason: () => stillDown(link, o.waitMs) });
  return await link.open(target, { signal: limit.signal });
}

function stillDown(link: Link, waitMs: number): LinkError {
  const { state } = link;
  if (state.type === 'down') return state.error;
  const message = `no channel on the link to ${link.host} within ${waitMs / 1000} s`;
  return new LinkError(message, { code: 'timeout', layer: 'channel' });
}
