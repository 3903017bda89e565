/** What a gate tells while it works. For display and debugging; nothing depends on it. */
export type GateEvent =
  /** Package lists are being read from the network. */
  | { type: 'updating' }
  /** These packages are being downloaded and unpacked into the cache. */
  | { type: 'fetching'; packages: readonly string[] }
  /** A server answers on this port of 127.0.0.1. */
  | { type: 'listening'; server: string; port: number }
  /** One line a server wrote. */
  | { type: 'log'; server: string; line: string };

/** Receives events; must not throw. */
export type OnGateEvent = (event: GateEvent) => void;
