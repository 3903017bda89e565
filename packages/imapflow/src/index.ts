export { type ConnectImapOptions, connectImap, linkFault } from './connect.ts';
export { ConnectImapError, type ConnectImapErrorCode } from './errors.ts';
