/** ssh2 decrypts in place and lends the octets out: their memory is used again when it was given back. */
import type { Client } from 'ssh2';
import { internalsOf } from './internals.ts';
import type { ReadBuffer } from './read-buffer.ts';

/** `SSH_MSG_CHANNEL_DATA` (RFC 4254 §5.2). */
const CHANNEL_DATA = 94;

/**
 * Tells a socket's {@link ReadBuffer} what ssh2 1.17.0 keeps of a read: a packet whose last bytes are yet to come, and what any packet but
 * channel data carries, as a key exchange needs its packets to the end. Of channel data itself the channels give account.
 */
export function lendReads(client: Client, reads: ReadBuffer): void {
  const protocol = internalsOf(client)._protocol;
  const { _onPayload } = protocol;
  let cameOther = true;
  const onPayload = (payload: Buffer): unknown => {
    if (payload[0] !== CHANNEL_DATA) cameOther = true;
    return _onPayload(payload);
  };
  // The one for deciphers to come, after new keys, and the present one.
  protocol._onPayload = onPayload;
  protocol._decipher._onPayload = onPayload;
  reads.watch((memory) => {
    const { _onPayload: present, _packet } = protocol._decipher;
    const isExchangingKeys = present !== onPayload;
    const keeps = cameOther || isExchangingKeys || _packet?.buffer === memory;
    cameOther = isExchangingKeys;
    return keeps;
  });
}
