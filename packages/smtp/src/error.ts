/** Why there is no session: one class, closed codes, one sentence a person can act on. */
import type { Layer, Reply } from '@postern/core';

/** Why there is no session (any more), closed: switch on it. */
export type DeliveryErrorCode =
  | 'refused' // greeting, EHLO or STARTTLS was answered with 4yz or 5yz
  | 'auth' // the server refused the user name or password
  | 'tls' // STARTTLS is not offered, or the handshake or the certificate failed
  | 'command' // the far command is missing, or ended before it greeted
  | 'closed' // the far side ended the session
  | 'protocol' // malformed or out of step: nothing more could be matched
  | 'timeout' // silent for longer than RFC 5321 §4.5.3.2 allows
  | 'message' // the message could not be read here, or is not as long as announced
  | 'aborted'; // ended from this side

/** Everything a courier rejects with, besides a `LinkError` and what its report rejects with. `message` is one sentence a person can act on. */
export class DeliveryError extends Error {
  override readonly name = 'DeliveryError';
  readonly code: DeliveryErrorCode;
  /** Where the fault lies. */
  readonly layer: Layer;
  /** The reply that said so. */
  readonly reply?: Reply;
  constructor(message: string, o: { code: DeliveryErrorCode; reply?: Reply | undefined; cause?: unknown }) {
    super(message, o.cause === undefined ? undefined : { cause: o.cause });
    this.code = o.code;
    this.layer = layerOf(o.code);
    if (o.reply !== undefined) this.reply = o.reply;
  }
  /** True when trying again alone cannot help: somebody must change a password, a certificate or a command. Mail is held all the same. */
  get permanent(): boolean {
    return this.code === 'auth' || this.code === 'tls' || this.code === 'command';
  }
}

function layerOf(code: DeliveryErrorCode): Layer {
  if (code === 'auth') return 'auth';
  return code === 'command' ? 'command' : 'protocol';
}
