/** The daemon's side of `postern pipe`: a request becomes one channel of one of its links. */
import type { Socket } from 'node:net';
import type { Env } from '@postern/core';
import type { Surroundings } from '../base/paths.ts';
import type { ControlHandler } from '../control/server.ts';
import { LINK_WAIT_MS, openWant, resolveAsked, sameWay } from '../pipe/open.ts';
import { type PipeAsk, parseAsk } from '../pipe/request.ts';
import { servePipe } from '../pipe/server.ts';
import type { ActiveConfig } from './active-config.ts';
import type { Host, Hosts } from './hosts.ts';

/** The answer when no link of the daemon is what was asked for: the client takes one of its own. */
export interface NotLent {
  readonly lent: false;
}

/** The daemon's side of `postern pipe`: a `pipe` request becomes one channel of one of its links. */
export function pipeHandler(o: {
  readonly hosts: Hosts;
  readonly active: ActiveConfig;
  readonly surroundings: Surroundings;
  readonly env: Env;
}): ControlHandler {
  return async (params) => {
    const ask = parseAsk(params);
    const host = await hostFor(ask, o);
    if (host === undefined) return { lent: false } satisfies NotLent;
    const waitMs = ask.timeoutSeconds === undefined ? LINK_WAIT_MS : ask.timeoutSeconds * 1000;
    return (socket: Socket, leftover: Buffer): void => {
      void servePipe(socket, {
        leftover,
        open: ({ signal }) => openWant(ask.want, host, { env: o.env, signal, waitMs }),
      });
    };
  };
}

/** The host of that name when nothing more is asked; else one whose link goes the very same way. */
async function hostFor(
  ask: PipeAsk,
  o: {
    readonly hosts: Hosts;
    readonly active: ActiveConfig;
    readonly surroundings: Surroundings;
  },
): Promise<Host | undefined> {
  const named = o.hosts.get(ask.host);
  const plain = ask.user === undefined && ask.port === undefined && !ask.sshArgs?.length && !ask.configFile;
  if (plain && named !== undefined) return named;
  // What cannot be resolved is told better by the client, which tries it.
  const asked = await resolveAsked(ask, o.active.config, o.surroundings).catch(() => undefined);
  if (asked === undefined) return undefined;
  const candidates = named === undefined ? o.hosts.all : [named, ...o.hosts.all];
  return candidates.find(({ resolved }) => sameWay(resolved, asked));
}
