/** ImapFlow over SSH: `await connectImap({ host: 'gate' })` is a client that is logged in. */
export { type ConnectImapOptions, connectImap, linkFault } from './connect.ts';
export { ConnectImapError, type ConnectImapErrorCode } from './errors.ts';
