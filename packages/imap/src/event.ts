/** What an endpoint or an imapd tells while it works. Names and reasons are from afar: escape before showing. Never a password. */
export type ImapEvent =
  /** A connection was closed before its banner, or before it logged in. */
  | { readonly type: 'refused'; readonly peer: string; readonly reason: string }
  /** `who` is how it came in (see `Admission`), `ms` from the login command to its reply. */
  | {
      readonly type: 'login';
      readonly peer: string;
      readonly who: string;
      readonly user: string;
      readonly host: string;
      readonly spare: boolean;
      readonly ms: number;
    }
  | { readonly type: 'login-failed'; readonly peer: string; readonly user: string; readonly reason: string }
  /** A logged-in session is over. */
  | { readonly type: 'ended'; readonly peer: string; readonly host: string; readonly why: SpliceEnd }
  /** Clients' sessions stand on new far sessions; `ms` from the moment there was a way to the far side again to the last of them. */
  | { readonly type: 'carried'; readonly host: string; readonly sessions: number; readonly ms: number }
  /** Which far command greeted with PREAUTH, when it was looked for. */
  | { readonly type: 'imapd-found'; readonly host: string; readonly command: string }
  /** Lines that stood before the greeting. */
  | { readonly type: 'noise'; readonly host: string; readonly lines: readonly string[] }
  | {
      readonly type: 'spare';
      readonly host: string;
      readonly what: 'ready' | 'taken' | 'lost' | 'retired' | 'failed';
      readonly reason?: string;
    };

/** Who ended a session: the client, the far side in order, the link, or we. */
export type SpliceEnd = 'client' | 'far' | 'lost' | 'closed';

/** Receives events; must not throw. */
export type OnImapEvent = (event: ImapEvent) => void;
