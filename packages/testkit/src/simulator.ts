/** A line that misbehaves on request; what is not asked for is carried byte for byte. */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { type Env, systemEnv } from '@postern/core';

/** How a simulated line behaves. */
export interface LineOptions {
  /** Each way, ms: a round trip takes twice as long. Default 0. */
  readonly delayMs?: number;
  /** Bytes per second each way, for each connection; absent: as fast as it goes. */
  readonly bytesPerSecond?: number;
}

/** A TCP proxy in front of a server that misbehaves on request. */
export interface Simulator extends AsyncDisposable {
  /** Where to connect to on 127.0.0.1. */
  readonly port: number;
  /** Connections now open. */
  readonly connections: number;
  /** Connections taken so far. */
  readonly accepted: number;
  /** Bytes carried to the server and from it. */
  readonly carried: { readonly up: number; readonly down: number };
  /** Most bytes that were ever on their way at once, to the server and from it, over all connections. */
  readonly peakHeld: { readonly up: number; readonly down: number };
  /** Changes delay and rate for what comes from now on. */
  shape(line: LineOptions): void;
  /** Carries nothing more, and says nothing of it: new connections are taken and left in silence. */
  blackHole(): void;
  /** Ends a black hole; what was held back goes on. */
  pass(): void;
  /** The connections there are fall silent for good, as when an address has gone; new ones are carried. */
  strand(): void;
  /** Resets all connections (RST). */
  reset(): void;
  /** Ends all connections in order (FIN). */
  hangUp(): void;
  /** Refuses new connections; those there are stay. */
  refuse(): void;
  /** Takes connections again, on the same port. */
  accept(): Promise<void>;
}

/** Bytes held per direction before the sender is slowed down: more than any window a test opens. */
const MAX_HELD_BYTES = 128 * 1024 * 1024;

/** Starts a simulator in front of `port` on 127.0.0.1. */
export async function startSimulator(o: LineOptions & { port: number; env?: Env }): Promise<Simulator> {
  const env = o.env ?? systemEnv;
  const state = {
    line: o as LineOptions,
    open: true,
    accepted: 0,
    carried: { up: 0, down: 0 },
    held: { up: 0, down: 0 },
    peakHeld: { up: 0, down: 0 },
  };
  const pairs = new Set<readonly [Socket, Socket]>();
  const directions = new Set<Direction>();
  const serve = (near: Socket): void => {
    state.accepted++;
    const far = connect({ port: o.port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
    near.setNoDelay(true);
    const pair = [near, far] as const;
    pairs.add(pair);
    const up = makeDirection({ from: near, to: far, env, state, way: 'up' });
    const down = makeDirection({ from: far, to: near, env, state, way: 'down' });
    for (const direction of [up, down]) directions.add(direction);
    const gone = (): void => {
      if (!near.destroyed || !far.destroyed) return;
      pairs.delete(pair);
      for (const direction of [up, down]) directions.delete(direction);
    };
    for (const socket of pair) {
      socket.on('error', () => {});
      socket.once('close', () => {
        (socket === near ? far : near).destroy();
        gone();
      });
    }
  };
  let server = await listen(serve, 0);
  const { port } = server.address() as { port: number };
  return {
    port,
    get connections() {
      return pairs.size;
    },
    get accepted() {
      return state.accepted;
    },
    carried: state.carried,
    peakHeld: state.peakHeld,
    shape(line) {
      state.line = line;
    },
    blackHole() {
      state.open = false;
    },
    pass() {
      state.open = true;
      for (const direction of directions) direction.pump();
    },
    strand() {
      for (const direction of directions) direction.strand();
    },
    reset() {
      for (const [near, far] of pairs) {
        near.resetAndDestroy();
        far.destroy();
      }
    },
    hangUp() {
      for (const [near, far] of pairs) {
        near.end();
        far.end();
      }
    },
    refuse() {
      server.close();
    },
    async accept() {
      server = await listen(serve, port);
    },
    async [Symbol.asyncDispose]() {
      for (const [near, far] of pairs) {
        near.destroy();
        far.destroy();
      }
      if (server.listening) await new Promise((resolve) => server.close(resolve));
    },
  };
}

function listen(serve: (socket: Socket) => void, port: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer({ allowHalfOpen: true }, serve);
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}

interface Direction {
  /** Carries nothing more. */
  strand(): void;
  /** Sends on what is due. */
  pump(): void;
}

interface Count {
  up: number;
  down: number;
}

interface DirectionOptions {
  readonly from: Socket;
  readonly to: Socket;
  readonly env: Env;
  readonly state: {
    readonly line: LineOptions;
    readonly open: boolean;
    readonly carried: Count;
    readonly held: Count;
    readonly peakHeld: Count;
  };
  readonly way: 'up' | 'down';
}

/** One direction of one connection. */
function makeDirection({ from, to, env, state, way }: DirectionOptions): Direction {
  const held: { at: number; chunk: Buffer | undefined }[] = [];
  let heldBytes = 0;
  let freeAt = 0;
  let armed: Disposable | undefined;
  let blocked = false;
  let stranded = false;
  const take = (chunk: Buffer | undefined): void => {
    const { delayMs = 0, bytesPerSecond } = state.line;
    const now = env.monotonicNow();
    // The line is busy with each chunk for as long as its rate asks, then the chunk travels.
    freeAt =
      Math.max(freeAt, now) + (bytesPerSecond === undefined ? 0 : ((chunk?.length ?? 0) / bytesPerSecond) * 1000);
    held.push({ at: freeAt + delayMs, chunk });
    heldBytes += chunk?.length ?? 0;
    state.held[way] += chunk?.length ?? 0;
    state.peakHeld[way] = Math.max(state.peakHeld[way], state.held[way]);
    if (heldBytes > MAX_HELD_BYTES) from.pause();
    pump();
  };
  const pump = (): void => {
    armed?.[Symbol.dispose]();
    armed = undefined;
    while (state.open && !blocked && !to.destroyed) {
      const [next] = held;
      if (next === undefined) return;
      const wait = next.at - env.monotonicNow();
      if (wait > 0) {
        armed = env.schedule(wait, pump);
        return;
      }
      held.shift();
      if (next.chunk === undefined) to.end();
      else send(next.chunk);
    }
  };
  const send = (chunk: Buffer): void => {
    heldBytes -= chunk.length;
    state.held[way] -= chunk.length;
    state.carried[way] += chunk.length;
    if (heldBytes <= MAX_HELD_BYTES) from.resume();
    if (to.write(chunk)) return;
    blocked = true;
    to.once('drain', () => {
      blocked = stranded;
      pump();
    });
  };
  from.on('data', take);
  from.on('end', () => take(undefined));
  from.on('close', () => armed?.[Symbol.dispose]());
  return {
    pump,
    strand() {
      blocked = true;
      stranded = true;
    },
  };
}
