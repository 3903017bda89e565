/**
 * Teaches a client of ssh2 1.17.0 a key exchange it does not have: {@link MLKEM_NAME}, first in its offer.
 *
 * ssh2 picks the method and makes its exchange in one private function. So the far side's KEXINIT is shown to it with the method's name replaced by
 * that of one it knows, and the exchange it then makes is given other methods before it starts. On the wire, and in the
 * exchange hash, stands what was really sent. What is used of ssh2 is in `kex.test.ts`.
 */
import type { Client } from 'ssh2';
import { internalsOf } from './internals.ts';
import { hybridExchange, type Kem, MLKEM_NAME } from './mlkem.ts';

/** What ssh2 takes ours for. */
const STAND_IN = 'curve25519-sha256';
/** RFC 4253 §12. */
const KEXINIT = 20;
/** After the type octet and the cookie (RFC 4253 §7.1). */
const KEX_LIST_AT = 17;

interface List {
  array: readonly string[];
  readonly buffer: Buffer;
}

/** What is offered (`KexInit` of `lib/protocol/kex.js`): `array` is matched against, the rest is sent. */
interface Offer {
  readonly lists: {
    readonly kex: List;
    readonly serverHostKey: List;
    readonly cs: Readonly<Record<Direction, List>>;
    readonly sc: Readonly<Record<Direction, List>>;
  };
}
type Direction = 'cipher' | 'mac' | 'compress' | 'lang';

/** An exchange (`KeyExchange` of `lib/protocol/kex.js`). */
interface Exchange {
  readonly negotiated: { kex: string };
  hashName: string;
  _remoteKexinit: Buffer;
  generateKeys(): void;
  getPublicKey(): Buffer;
  convertPublicKey(key: Buffer): Buffer;
  computeSecret(theirs: Buffer): Buffer | Error;
}

interface Reader {
  read(payload: Buffer): Buffer;
}

interface KexInternals {
  _offer: Offer;
  _kex: Exchange | undefined;
  /** Every payload passes `read`, compressed or not; another reader comes with each set of keys. */
  readonly _packetRW: { read: Reader };
}

/** To be called right after `connect()`: before the far side has said what it can. */
export function offerMlkem(client: Client, kem: Kem): void {
  const protocol = internalsOf(client)._protocol as unknown as KexInternals;
  const known = protocol._offer.lists.kex.array;
  protocol._offer = withFirst(protocol._offer, MLKEM_NAME);
  /** The far side's own KEXINIT, while ssh2 works with the other. */
  let real: Buffer | undefined;

  onEachPayload(protocol, (payload) => {
    if (payload[0] !== KEXINIT) return payload;
    const shown = withStandIn(payload);
    real = shown === undefined ? undefined : payload;
    protocol._offer.lists.kex.array = shown === undefined ? known : [STAND_IN, ...known];
    return shown ?? payload;
  });

  let exchange = protocol._kex;
  Object.defineProperty(protocol, '_kex', {
    get: () => exchange,
    set(made: Exchange | undefined) {
      if (made !== undefined && real !== undefined && made !== exchange) makeHybrid(made, kem, real);
      real = undefined;
      exchange = made;
    },
  });
}

/** The same offer with one more method in front; what is matched against stays as it was. */
function withFirst(offer: Offer, method: string): Offer {
  const { kex, serverHostKey, cs, sc } = offer.lists;
  const arrays = (lists: Readonly<Record<Direction, List>>): Record<string, readonly string[]> =>
    Object.fromEntries(Object.entries(lists).map(([name, { array }]) => [name, array]));
  const KexInit = offer.constructor as new (lists: unknown) => Offer;
  const made = new KexInit({
    kex: [method, ...kex.array],
    serverHostKey: serverHostKey.array,
    cs: arrays(cs),
    sc: arrays(sc),
  });
  made.lists.kex.array = kex.array;
  return made;
}

function onEachPayload(protocol: KexInternals, see: (payload: Buffer) => Buffer): void {
  const watch = (reader: Reader): Reader => {
    const read = reader.read.bind(reader);
    reader.read = (payload) => see(read(payload));
    return reader;
  };
  let reader = watch(protocol._packetRW.read);
  Object.defineProperty(protocol._packetRW, 'read', {
    get: () => reader,
    set(next: Reader) {
      reader = watch(next);
    },
  });
}

/** A KEXINIT in which the stand-in has our method's place; undefined where the far side does not know our method. */
function withStandIn(payload: Buffer): Buffer | undefined {
  if (payload.length < KEX_LIST_AT + 4) return undefined;
  const start = KEX_LIST_AT + 4;
  const end = start + payload.readUInt32BE(KEX_LIST_AT);
  const methods = payload.toString('latin1', start, end).split(',');
  if (!methods.includes(MLKEM_NAME)) return undefined;
  const shown = Buffer.from(methods.map((name) => (name === MLKEM_NAME ? STAND_IN : name)).join(','), 'latin1');
  const length = Buffer.alloc(4);
  length.writeUInt32BE(shown.length);
  return Buffer.concat([payload.subarray(0, KEX_LIST_AT), length, shown, payload.subarray(end)]);
}

function makeHybrid(exchange: Exchange, kem: Kem, remoteKexinit: Buffer): void {
  const { init, secret } = hybridExchange(kem);
  exchange.negotiated.kex = MLKEM_NAME;
  exchange.hashName = 'sha256';
  exchange._remoteKexinit = remoteKexinit;
  exchange.generateKeys = () => {};
  exchange.getPublicKey = () => init;
  exchange.convertPublicKey = (key) => key;
  exchange.computeSecret = (theirs) => {
    try {
      return secret(theirs);
    } catch (error) {
      return error as Error;
    }
  };
}
