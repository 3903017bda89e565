export { TransportError, type TransportErrorCode } from './errors.ts';
export { type SshSentMessageInfo, type SshTransport, type SshTransportOptions, sshTransport } from './transport.ts';
