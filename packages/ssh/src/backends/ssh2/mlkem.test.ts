import * as crypto from 'node:crypto';
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import { describe, expect, test } from 'vitest';
import { hybridExchange, isPostQuantum, type Kem, nobleKem, nodeKem } from './mlkem.ts';

/** The server's half, by another implementation: S_REPLY and K for a C_INIT. */
function answer(init: Uint8Array): { reply: Buffer; secret: Buffer } {
  const { cipherText, sharedSecret } = ml_kem768.encapsulate(init.subarray(0, 1184));
  const { publicKey, privateKey } = crypto.generateKeyPairSync('x25519');
  const own = publicKey.export({ format: 'jwk' }).x ?? '';
  const x = Buffer.from(init.subarray(1184)).toString('base64url');
  const theirs = crypto.createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x }, format: 'jwk' });
  const classic = crypto.diffieHellman({ privateKey, publicKey: theirs });
  return {
    reply: Buffer.concat([cipherText, Buffer.from(own, 'base64url')]),
    secret: crypto.createHash('sha256').update(sharedSecret).update(classic).digest(),
  };
}

const kems: [string, Kem][] = [['the library', await nobleKem()]];
const own = nodeKem();
if (own !== undefined) kems.push(["Node's own", own]);

describe.each(kems)('an exchange with %s', (_, kem) => {
  test('sends 1,216 octets, and comes to the secret the server has', () => {
    const exchange = hybridExchange(kem);
    expect(exchange.init).toHaveLength(1216);
    const { reply, secret } = answer(exchange.init);
    expect(exchange.secret(reply)).toEqual(secret);
  });

  test('has new keys each time', () => {
    expect(hybridExchange(kem).init.equals(hybridExchange(kem).init)).toBe(false);
  });

  test.each([
    ['nothing', (reply: Buffer) => reply.subarray(0, 0)],
    ['a truncated ciphertext', (reply: Buffer) => reply.subarray(0, 1000)],
    ['a reply without its X25519 key', (reply: Buffer) => reply.subarray(0, 1088)],
    ['an octet too few', (reply: Buffer) => reply.subarray(0, -1)],
    ['an octet too many', (reply: Buffer) => Buffer.concat([reply, Buffer.alloc(1)])],
  ])('%s is an error that tells the length', (_what, cut) => {
    const exchange = hybridExchange(kem);
    const reply = cut(answer(exchange.init).reply);
    expect(() => exchange.secret(reply)).toThrow(`reply has ${reply.length} octets instead of 1120`);
  });

  test('an X25519 point of low order is an error', () => {
    const exchange = hybridExchange(kem);
    const { reply } = answer(exchange.init);
    reply.fill(0, 1088);
    expect(() => exchange.secret(reply)).toThrow('low order');
  });

  test('a ciphertext that was changed gives another secret, as FIPS 203 has it', () => {
    const exchange = hybridExchange(kem);
    const { reply, secret } = answer(exchange.init);
    reply[5] = (reply[5] ?? 0) ^ 1;
    expect(exchange.secret(reply).equals(secret)).toBe(false);
  });
});

test.each([
  ['mlkem768x25519-sha256', true],
  ['sntrup761x25519-sha512@openssh.com', true],
  ['curve25519-sha256', false],
  ['diffie-hellman-group14-sha256', false],
])('%s is post-quantum: %s', (name, expected) => expect(isPostQuantum(name)).toBe(expected));
