/** An agent's keys are listed whole, those that ssh2 would leave out too. */
import { connect } from 'node:net';

/** A key an agent holds, of whatever type. */
export interface AgentKey {
  /** RFC 4253 §6.6; for a certificate, the whole of it. */
  readonly blob: Buffer;
  readonly comment: string;
}

/** SSH_AGENTC_REQUEST_IDENTITIES and its answer (draft-miller-ssh-agent-14 §4.4). */
const REQUEST_IDENTITIES = Buffer.from([0, 0, 0, 1, 11]);
const IDENTITIES_ANSWER = 12;
/** Largest answer that is read, bytes: OpenSSH's own limit. */
const MAX_ANSWER_BYTES = 256 * 1024;

/** Lists the keys of an agent. ssh2 1.17.0 leaves out, and does not tell of, those it cannot use: certificates and FIDO keys. */
export function listAgentKeys(path: string, signal: AbortSignal): Promise<AgentKey[]> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path, signal });
    let answer = Buffer.alloc(0);
    socket.on('error', (error) => reject(signal.aborted ? signal.reason : error));
    socket.on('close', () => reject(new Error('it hung up')));
    socket.on('data', (chunk: Buffer) => {
      answer = Buffer.concat([answer, chunk]);
      const length = answer.length < 4 ? 0 : answer.readUInt32BE(0);
      if (length > MAX_ANSWER_BYTES || answer.length > 4 + MAX_ANSWER_BYTES)
        reject(new Error('its answer is too long'));
      else if (length === 0 || answer.length < 4 + length) return;
      else {
        const keys = parseIdentities(answer.subarray(4, 4 + length));
        if (keys === undefined) reject(new Error('its answer cannot be read'));
        else resolve(keys);
      }
      socket.destroy();
    });
    socket.write(REQUEST_IDENTITIES);
  });
}

/** `byte 12, uint32 count`, then `string blob, string comment` for each. Undefined when it is anything else. */
function parseIdentities(body: Buffer): AgentKey[] | undefined {
  if (body.length < 5 || body[0] !== IDENTITIES_ANSWER) return undefined;
  const keys: AgentKey[] = [];
  let at = 5;
  const next = (): Buffer | undefined => {
    if (body.length < at + 4) return undefined;
    const from = at + 4;
    at = from + body.readUInt32BE(at);
    return at > body.length ? undefined : body.subarray(from, at);
  };
  for (let left = body.readUInt32BE(1); left > 0; left--) {
    const [blob, comment] = [next(), next()];
    if (blob === undefined || comment === undefined) return undefined;
    keys.push({ blob, comment: comment.toString('utf8') });
  }
  return keys;
}
