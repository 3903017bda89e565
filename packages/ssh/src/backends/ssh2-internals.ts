import type { Client, ClientChannel } from 'ssh2';

/**
 * What is used of ssh2 1.17.0 beyond its documented interface. The version is pinned exactly, and `ssh2-internals.test.ts`
 * fails when any of it changes.
 */
interface Internals {
  /** Replies to global requests are matched to these in order (`lib/client.js`). */
  readonly _callbacks: ((error: unknown) => void)[];
  readonly _protocol: {
    /** Sends `keepalive@openssh.com` with a reply wanted (`lib/protocol/Protocol.js`). */
    ping(): void;
    rekey(): void;
    readonly _handlers: {
      USERAUTH_FAILURE(protocol: unknown, methods: readonly string[], partial: boolean): void;
    };
    /** Throws for a name not in RFC 4254 §6.10. */
    signal(channel: number, name: string): void;
  };
}

interface ChannelInternals {
  /** `open`, `eof` after the far side's EOF, `closed` after its CLOSE or the connection's end (`lib/Channel.js`). */
  readonly incoming: { readonly state: string };
  readonly outgoing: { readonly state: string; readonly id: number };
  readonly _client: Internals;
}

/** Asks for a sign of life; `answered` is called with the reply, or with an error when the connection ends first. */
export function ping(client: Client, answered: (error: unknown) => void): void {
  const { _callbacks, _protocol } = client as unknown as Internals;
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
  const { _handlers } = (client as unknown as Internals)._protocol;
  const { USERAUTH_FAILURE } = _handlers;
  _handlers.USERAUTH_FAILURE = (protocol, methods, partial) => {
    heard(methods);
    USERAUTH_FAILURE(protocol, methods, partial);
  };
}
