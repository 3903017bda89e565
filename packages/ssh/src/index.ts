/** One kept SSH connection to a host, resolved as ssh would: a lost link is always an error, never a clean end. */
export { acceptNewHostKey } from './auth/accept.ts';
export type { AcceptedKey } from './auth/host-key.ts';
export { fingerprint } from './auth/host-key.ts';
export { dialHost } from './backends/auto.ts';
export { dialOpenssh } from './backends/openssh/openssh.ts';
export { isPostQuantum } from './backends/ssh2/mlkem.ts';
export { dialSsh2 } from './backends/ssh2/ssh2.ts';
export type { Connection, ConnectionLimits, Dial, DialOptions, DialProgress } from './connection.ts';
export type { DialStep, LinkEvent, OnLinkEvent } from './event.ts';
export type { ForwardEvent, OnForwardEvent } from './forward/event.ts';
export type { Forward, ForwardOptions } from './forward/forward.ts';
export { FORWARD_OPEN_MS, FORWARD_SESSIONS, startForward } from './forward/forward.ts';
export type {
  LocalPlace,
  RemoteBind,
  RemoteListener,
  Reverse,
  ReverseAbility,
  ReverseOptions,
} from './forward/reverse.ts';
export { canListenRemote, REVERSE_SESSIONS, startReverse } from './forward/reverse.ts';
export type { Destination } from './host/destination.ts';
export { formatAddress, parseDestination } from './host/destination.ts';
export type { ResolveOptions } from './host/resolve.ts';
export { resolveHost } from './host/resolve.ts';
export type { BackendName, HostOverrides, ResolvedHost } from './host/resolved-host.ts';
export type { LinkOptions } from './link/dialling.ts';
export type { HostLink } from './link/link.ts';
export { createLink } from './link/link.ts';
