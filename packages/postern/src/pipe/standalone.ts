/** A link of one's own, for when no daemon has it. */
import { type Channel, type Env, raceAbort } from '@postern/core';
import { createImapd } from '@postern/imap';
import { createLink } from '@postern/ssh';
import type { Surroundings } from '../base/paths.ts';
import { smtpTarget } from '../config/host.ts';
import { loadConfig } from '../config/load.ts';
import { LINK_WAIT_MS, openWant, resolveAsked } from './open.ts';
import type { PipeAsk } from './request.ts';

/** A channel over a link of its own. */
export interface Own {
  readonly channel: Channel;
  /** Ends the link. */
  close(): Promise<void>;
}

/**
 * Opens a channel where no daemon lends one. As ssh does, it gives up at the first failure to connect. Rejects with `LinkError`, `ImapError`,
 * `PosternError` `config` or the signal's reason.
 */
export async function openOwn(
  ask: PipeAsk,
  o: { surroundings: Surroundings; configFile: string | undefined; env: Env; signal: AbortSignal },
): Promise<Own> {
  const config = loadConfig(o.surroundings, { file: o.configFile });
  const resolved = await raceAbort(resolveAsked(ask, config, o.surroundings), o.signal);
  const values = config.hosts.get(ask.host);
  const link = createLink(resolved, { env: o.env });
  const imapd = createImapd({
    link,
    spare: 0,
    keepaliveMs: resolved.keepaliveMs,
    env: o.env,
    ...(values?.imapd === undefined ? {} : { command: values.imapd }),
  });
  const failed = new AbortController();
  const watch = link.watch((state) => {
    if (state.type === 'down') failed.abort(state.error);
  });
  try {
    const signal = AbortSignal.any([o.signal, failed.signal]);
    const waitMs = ask.timeoutSeconds === undefined ? LINK_WAIT_MS : ask.timeoutSeconds * 1000;
    const host = { link, imapd, smtp: smtpTarget(values) };
    const channel = await openWant(ask.want, host, { env: o.env, signal, waitMs });
    return { channel, close: () => link.close() };
  } catch (error) {
    void link.close();
    throw error;
  } finally {
    watch[Symbol.dispose]();
  }
}
