export { CANDIDATES, probeCommand } from './candidates.ts';
export type { Continuity } from './carry.ts';
export type { EndpointTls, ImapdFor } from './connection.ts';
export * from './endpoint.ts';
export * from './errors.ts';
export * from './event.ts';
export * from './imapd.ts';
export * from './limits.ts';
export type { Session } from './session.ts';
