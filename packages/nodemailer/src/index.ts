/** A Nodemailer transport over SSH: `createTransport(sshTransport({ host: 'gate' }))`. */
export { TransportError, type TransportErrorCode } from './errors.ts';
export type { SshSentMessageInfo, SshTransportOptions } from './options.ts';
export { type SshTransport, sshTransport } from './transport.ts';
