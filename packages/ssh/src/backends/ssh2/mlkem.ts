/**
 * The client's half of `mlkem768x25519-sha256` (draft-ietf-sshm-mlkem-hybrid-kex): octets in, octets out, one exchange each.
 *
 * C_INIT is the ML-KEM-768 encapsulation key and the X25519 public key, S_REPLY the ciphertext and the server's X25519 public key; K is
 * SHA-256 of the two secrets, and enters the exchange hash and the keys as a string, not as an mpint.
 */
import * as crypto from 'node:crypto';

/** The method's name on the wire. */
export const MLKEM_NAME = 'mlkem768x25519-sha256';

/** Whether traffic recorded today stays closed to a quantum computer, by the method's name: ML-KEM, NTRU Prime and Kyber hybrids. */
export function isPostQuantum(method: string): boolean {
  return /^(mlkem|sntrup|kyber)/.test(method);
}

/** FIPS 203, table 3. */
const ENCAPSULATION_KEY_BYTES = 1184;
const CIPHERTEXT_BYTES = 1088;
const X25519_BYTES = 32;
/** RFC 8410 §4: what stands before the key in SubjectPublicKeyInfo. */
const X25519_SPKI = Buffer.from('302a300506032b656e032100', 'hex');

/** One ML-KEM-768 key pair. `decapsulate` takes a ciphertext of the right length and gives 32 octets. */
export interface KemKeyPair {
  readonly encapsulationKey: Uint8Array;
  decapsulate(ciphertext: Uint8Array): Uint8Array;
}

/** Makes key pairs. */
export type Kem = () => KemKeyPair;

/** Where OpenSSL 3.5 is beneath Node (24.7 and later) it is asked, else a library is loaded. */
export async function loadKem(): Promise<Kem> {
  return nodeKem() ?? (await nobleKem());
}

/** Node's own ML-KEM; undefined where this Node has none. */
export function nodeKem(): Kem | undefined {
  const { decapsulate } = crypto as { decapsulate?: (key: crypto.KeyObject, ciphertext: Uint8Array) => Uint8Array };
  const generate = crypto.generateKeyPairSync as unknown as (type: string) => crypto.KeyPairKeyObjectResult;
  if (decapsulate === undefined) return undefined;
  try {
    generate('ml-kem-768');
  } catch {
    return undefined;
  }
  return () => {
    const { publicKey, privateKey } = generate('ml-kem-768');
    const spki = publicKey.export({ type: 'spki', format: 'der' });
    return {
      encapsulationKey: spki.subarray(-ENCAPSULATION_KEY_BYTES),
      decapsulate: (ciphertext) => decapsulate(privateKey, ciphertext),
    };
  };
}

/** ML-KEM of `@noble/post-quantum`. */
export async function nobleKem(): Promise<Kem> {
  const { ml_kem768 } = await import('@noble/post-quantum/ml-kem.js');
  return () => {
    const { publicKey, secretKey } = ml_kem768.keygen();
    return { encapsulationKey: publicKey, decapsulate: (ciphertext) => ml_kem768.decapsulate(ciphertext, secretKey) };
  };
}

/** One exchange of the client. */
export interface HybridExchange {
  /** C_INIT, 1,216 octets. */
  readonly init: Buffer;
  /** K for an S_REPLY. Throws `RangeError` for a wrong length, or an X25519 key that gives no secret (RFC 7748 §6.1). */
  secret(reply: Uint8Array): Buffer;
}

/** Begins an exchange with keys of its own. */
export function hybridExchange(kem: Kem): HybridExchange {
  const pair = kem();
  const { publicKey, privateKey } = crypto.generateKeyPairSync('x25519');
  const own = publicKey.export({ type: 'spki', format: 'der' }).subarray(-X25519_BYTES);
  return {
    init: Buffer.concat([pair.encapsulationKey, own]),
    secret(reply) {
      const expected = CIPHERTEXT_BYTES + X25519_BYTES;
      if (reply.length !== expected) {
        throw new RangeError(`the server's ${MLKEM_NAME} reply has ${reply.length} octets instead of ${expected}`);
      }
      const post = pair.decapsulate(reply.subarray(0, CIPHERTEXT_BYTES));
      const classic = x25519(privateKey, reply.subarray(CIPHERTEXT_BYTES));
      return crypto.createHash('sha256').update(post).update(classic).digest();
    },
  };
}

/** All zero comes of a point of low order, which would leave the secret to ML-KEM alone; OpenSSL refuses it too. */
function x25519(privateKey: crypto.KeyObject, theirs: Uint8Array): Buffer {
  const key = Buffer.concat([X25519_SPKI, theirs]);
  const low = "the server's X25519 key is of low order";
  let secret: Buffer;
  try {
    secret = crypto.diffieHellman({
      privateKey,
      publicKey: crypto.createPublicKey({ key, type: 'spki', format: 'der' }),
    });
  } catch (cause) {
    throw new RangeError(low, { cause });
  }
  if (secret.every((octet) => octet === 0)) throw new RangeError(low);
  return secret;
}
