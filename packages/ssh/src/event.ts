/** What a link tells of itself. */
import type { Exit, LinkError, Target } from '@postern/core';

/** What a link tells while it works. `host` is the link's name; nothing depends on an event being heard. */
export type LinkEvent =
  /** A dial starts. `attempt` counts from 1 since the link was last up. */
  | { readonly type: 'dialling'; readonly host: string; readonly attempt: number }
  /** A layer was passed on the way up; `hop` is the jump host it was passed at, `algorithm` the key exchange method of `kex`. */
  | {
      readonly type: 'passed';
      readonly host: string;
      readonly step: DialStep;
      readonly algorithm?: string;
      readonly hop?: string;
    }
  /** A connection is up; `ms` is the time from its dial to its authentication, `connections` how many the link has now. */
  | { readonly type: 'up'; readonly host: string; readonly ms: number; readonly connections: number }
  /** The link is down; `retryAt` is wall clock, ms, absent when it will not redial by itself. */
  | { readonly type: 'down'; readonly host: string; readonly error: LinkError; readonly retryAt?: number }
  /** One of several connections ended, the link stays up. */
  | {
      readonly type: 'connection-ended';
      readonly host: string;
      readonly error: LinkError;
      readonly connections: number;
    }
  /** The far side is silent, and whether it still lives is being asked. */
  | { readonly type: 'probing'; readonly host: string; readonly why: string }
  /** Text the server sent before or during authentication (RFC 4252 §5.4). From afar: escape before showing. */
  | { readonly type: 'banner'; readonly host: string; readonly text: string }
  /** Something to know that stopped nothing, e.g. a key that was passed over. */
  | { readonly type: 'notice'; readonly host: string; readonly text: string }
  /** Debug level: new keys were agreed on. */
  | { readonly type: 'rekeyed'; readonly host: string; readonly hop?: string }
  /** Debug level. `ms` is the time the far side took. */
  | { readonly type: 'channel-open'; readonly host: string; readonly target: Target; readonly ms: number }
  /** Debug level. */
  | { readonly type: 'channel-close'; readonly host: string; readonly target: Target; readonly exit: Exit };

/** The layers a dial passes, in order. */
export type DialStep = 'dns' | 'tcp' | 'kex' | 'hostkey' | 'auth';

/** Receives events; must not throw. */
export type OnLinkEvent = (event: LinkEvent) => void;
