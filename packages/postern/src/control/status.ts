/** What `status` asks over the control socket is answered with; `postern status --json` prints it as it is. */
import type { LinkState } from '@postern/core';
import type { QueueRow } from '../queue/row.ts';

/** A plain smarthost as `postern status --json` shows it. It has no link: a connection is made when there is mail. */
export interface SmarthostStatus {
  /** As configured. */
  readonly smarthost: string;
  /** `down`: the last try failed. */
  readonly state: 'idle' | 'up' | 'down';
  /** One sentence; while down. */
  readonly error?: string;
}

/** A `[[forward]]` as `postern status --json` shows it. */
export interface ForwardStatus {
  readonly listen: string;
  readonly host: string;
  readonly to: string;
  readonly sessions: number;
}

/** A `[[reverse]]` as `postern status --json` shows it. */
export interface ReverseStatus {
  readonly host: string;
  /** As configured, or with the true port while the far side listens. */
  readonly listen: string;
  readonly to: string;
  readonly state: 'waiting' | 'listening' | 'refused';
  /** One sentence; while refused. */
  readonly error?: string;
  readonly fix?: string;
}

/** A host as `postern status --json` shows it. */
export interface HostStatus {
  readonly host: string;
  /** `[user@]hostname:port` as resolved. */
  readonly destination: string;
  /** The jump hosts, the first to dial first, in the same form. */
  readonly hops: readonly string[];
  readonly state: LinkState['type'];
  /** One sentence; while down. */
  readonly error?: string;
  readonly fix?: string;
  /** ISO 8601; absent when it will not redial by itself. */
  readonly retryAt?: string;
  readonly rttMs?: number;
  readonly spares: number;
  /** IMAP sessions that outlived their link, since the daemon started or the host's settings changed. */
  readonly carried: number;
  /** Open on its connections, spares and what is lent among them. */
  readonly channels: number;
  /** Receipts that broken sessions left over there; absent where none are kept, and while the link was not up yet. Looked for every ten minutes at most. */
  readonly receipts?: { readonly count: number; readonly octets: number };
}

/** What of the queue goes one way, as `postern status --json` shows it. */
export interface RouteStatus {
  /** The pattern that takes it now; null when no route does. */
  readonly route: string | null;
  /** Host or smarthost. */
  readonly host: string | null;
  /** Entries with recipients that go there. */
  readonly entries: number;
  /** The soonest next try, ISO 8601; null while that depends on a link, a route or a person. */
  readonly next: string | null;
  /** Why the first of them that was tried waits; empty while none was. */
  readonly reason: string;
}

/** A listener's certificate as `postern status --json` shows it. */
export interface TlsStatus {
  readonly certificate: string;
  /** SHA-256, upper-case hex with colons. */
  readonly fingerprint: string;
  /** ISO 8601. */
  readonly validTo: string;
}

/** What `postern status --json` gives. */
export interface DaemonStatus {
  readonly pid: number;
  /** ISO 8601. */
  readonly startedAt: string;
  readonly imap: { readonly listen: readonly string[]; readonly sessions: number };
  readonly smtp: { readonly listen: readonly string[]; readonly sessions: number };
  /** Certificates of listeners with TLS. */
  readonly tls: readonly TlsStatus[];
  readonly hosts: readonly HostStatus[];
  readonly smarthosts: readonly SmarthostStatus[];
  readonly forwards: readonly ForwardStatus[];
  readonly reverses: readonly ReverseStatus[];
  /** Entries by state. */
  readonly queue: Readonly<Record<QueueRow['state'], number>>;
  /** The queue by where it goes. */
  readonly routes: readonly RouteStatus[];
  /** The Maildir of DSNs that no route takes, and how many messages lie in it. */
  readonly bounces: { readonly path: string; readonly messages: number };
}
