/**
 * What ssh2 keeps to itself and is needed all the same; the contract test fails when another version has it otherwise.
 */
import type { Client, ClientChannel } from 'ssh2';

/**
 * What is used of ssh2 1.17.0 beyond its documented interface. The version is pinned exactly, and `internals.test.ts`
 * fails when any of it changes.
 */
export interface Internals {
  readonly _chanMgr: {
    get(id: number): ChannelInternals | ((...args: never) => void) | undefined;
    /** Reserves a channel number; the function is called with the channel or why there is none. */
    add(opened: ((error: Error & { reason?: unknown }) => void) & { type: string }): number;
  };
  /** Replies to global requests are matched to these in order (`lib/client.js`). */
  readonly _callbacks: ((error: unknown) => void)[];
  readonly _protocol: {
    /** Sends `keepalive@openssh.com` with a reply wanted (`lib/protocol/Protocol.js`). */
    ping(): void;
    rekey(): void;
    channelWindowAdjust(channel: number, bytes: number): void;
    /** Sends the identification string. */
    start: () => void;
    _authenticated: boolean;
    _cipher: PlainCipher;
    _decipher: Decipher;
    /** Takes bytes from `at` on, tells how far it came. */
    _parse: (chunk: Buffer, at: number, length: number) => number;
    /** Bound; given to each decipher when it is made. */
    _onPayload: (payload: Buffer) => unknown;
    _onWrite(packet: Buffer): void;
    readonly _handlers: {
      CHANNEL_DATA(protocol: unknown, id: number, data: Buffer): void;
      USERAUTH_FAILURE(protocol: unknown, methods: readonly string[], partial: boolean): void;
    };
    /** Throws for a name not in RFC 4254 §6.10. */
    signal(channel: number, name: string): void;
  };
}

/** What turns payloads into packets (`lib/protocol/crypto.js`). */
export interface PlainCipher {
  /** A packet whose payload starts at 5. */
  allocPacket: (payloadLength: number) => Buffer;
  /** Perhaps in place; what comes of it is written before it returns. */
  encrypt: (packet: Buffer) => void;
  free(): void;
}

/** What turns packets into payloads (`lib/protocol/crypto.js`). */
export interface Decipher {
  free(): void;
  /** Takes each payload; another function while keys are exchanged (`lib/protocol/kex.js`). */
  _onPayload?: (payload: Buffer) => unknown;
  /** The packet begun, perhaps within the memory of the read it came in. */
  readonly _packet?: Uint8Array | null;
}

/** A channel from inside (`lib/Channel.js`). */
export interface ChannelInternals {
  /** `open`, `eof` after the far side's EOF, `closed` after its CLOSE or the connection's end. `window`: what it may send. */
  readonly incoming: { readonly state: string; window: number };
  readonly outgoing: { readonly state: string; readonly id: number };
  readonly _client: Internals;
  readonly readableLength: number;
  push(data: Buffer): boolean;
}

/** `MAX_WINDOW` of `lib/Channel.js`: the window every channel opens with. */
export const BASE_WINDOW_BYTES: number = 2 * 1024 * 1024;

/** A client from inside. */
export function internalsOf(client: Client): Internals {
  return client as unknown as Internals;
}

/** Asks for a sign of life; `answered` is called with the reply, or with an error when the connection ends first. */
export function ping(client: Client, answered: (error: unknown) => void): void {
  const { _callbacks, _protocol } = internalsOf(client);
  _callbacks.push(answered);
  _protocol.ping();
}

/** Whether the far side said EOF and no more. */
export function sawOnlyEof(channel: ClientChannel): boolean {
  return (channel as unknown as ChannelInternals).incoming.state === 'eof';
}

/** Sends a signal even after our own EOF, where `channel.signal()` keeps silent. */
export function sendSignal(channel: ClientChannel, name: string): void {
  const { outgoing, _client } = channel as unknown as ChannelInternals;
  if (outgoing.state === 'open' || outgoing.state === 'eof') _client._protocol.signal(outgoing.id, name);
}

/** Hears which methods the server would accept at each refusal: for keys of an agent ssh2 keeps them to itself. After `connect()`. */
export function onAuthRefusal(client: Client, heard: (methods: readonly string[]) => void): void {
  const { _handlers } = internalsOf(client)._protocol;
  const { USERAUTH_FAILURE } = _handlers;
  _handlers.USERAUTH_FAILURE = (protocol, methods, partial) => {
    heard(methods);
    USERAUTH_FAILURE(protocol, methods, partial);
  };
}

/**
 * Hears what a server sends before its identification string (RFC 4253 §4.2), as it comes: ssh2 keeps it to itself when the server hangs up behind it, as sshd does to
 * say `Exceeded MaxStartups`. After `connect()`.
 */
export function onPreamble(client: Client, heard: (text: string) => void): void {
  const { _protocol } = internalsOf(client);
  const parse = _protocol._parse;
  // Another function takes its place once the string is there.
  _protocol._parse = function (this: unknown, chunk, at, length) {
    heard(chunk.toString('latin1', at, length));
    return parse.call(this, chunk, at, length);
  };
}

/** Starts a key exchange; does nothing while one is going on. */
export function rekey(client: Client): void {
  internalsOf(client)._protocol.rekey();
}
