/** What a forward tells of its clients. */
import type { Exit, LinkError, Target } from '@postern/core';

/** What a forward tells. `host` is the link's name; `message` texts may hold words from afar: escape before showing. */
export type ForwardEvent =
  /** A local peer was not let in. */
  | { readonly type: 'forward-denied'; readonly host: string; readonly reason: string }
  | { readonly type: 'forward-open'; readonly host: string; readonly target: Target }
  /** The far side did not open the channel, or the link did not come up in time. `fix` says what may help. */
  | {
      readonly type: 'forward-refused';
      readonly host: string;
      readonly target: Target;
      readonly error: LinkError;
      readonly fix?: string;
    }
  /** `stderr` is the end of what the far command said there. */
  | {
      readonly type: 'forward-close';
      readonly host: string;
      readonly target: Target;
      readonly exit: Exit;
      readonly stderr: string;
    }
  /** The far sshd listens; `listen` has the true port. */
  | { readonly type: 'reverse-listening'; readonly host: string; readonly listen: string }
  /** It does not; asked again after `retryInMs`, or at the next link-up where that is absent. */
  | {
      readonly type: 'reverse-refused';
      readonly host: string;
      readonly listen: string;
      readonly error: LinkError;
      readonly fix?: string;
      readonly retryInMs?: number;
    }
  /** The connection that listened is gone. */
  | { readonly type: 'reverse-lost'; readonly host: string; readonly listen: string; readonly error: LinkError }
  | { readonly type: 'reverse-open'; readonly host: string; readonly to: string }
  /** Nothing answers on this machine. */
  | { readonly type: 'reverse-unreachable'; readonly host: string; readonly to: string; readonly message: string }
  /** A recipient outside `domains` was refused. `address` comes from afar. */
  | { readonly type: 'reverse-recipient-refused'; readonly host: string; readonly address: string }
  | { readonly type: 'reverse-close'; readonly host: string; readonly to: string; readonly error?: Error };

/** Receives events; must not throw. */
export type OnForwardEvent = (event: ForwardEvent) => void;
