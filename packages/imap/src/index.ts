/** The public face of the IMAP endpoint: a listener, a far imapd with its spares, and a channel that outlives its link. */
export type { Continuity } from './carry.ts';
export { carriedChannel } from './channel.ts';
export type { EndpointTls, ImapdFor } from './connection.ts';
export { createEndpoint, type Endpoint, type EndpointOptions } from './endpoint.ts';
export { ImapError, type ImapErrorCode } from './errors.ts';
export type { ImapEvent, OnImapEvent, SpliceEnd } from './event.ts';
export { createImapd, Imapd, type ImapdOptions, type ImapdStatus, type Taken } from './imapd.ts';
export { LINK_WAIT_MS } from './limits.ts';
export type { Session } from './session.ts';
