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
  const simulator = new LineSimulator(o);
  await simulator.accept();
  return simulator;
}

class LineSimulator implements Simulator {
  readonly #target: number;
  readonly #env: Env;
  readonly #state: LineState;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  readonly #directions = new Set<Direction>();
  #server: Server | undefined;
  /** Its own; 0 until it listens, the same ever after. */
  #port = 0;

  constructor(o: LineOptions & { port: number; env?: Env }) {
    this.#target = o.port;
    this.#env = o.env ?? systemEnv;
    this.#state = {
      line: o,
      open: true,
      accepted: 0,
      carried: { up: 0, down: 0 },
      held: { up: 0, down: 0 },
      peakHeld: { up: 0, down: 0 },
    };
  }

  get port(): number {
    return this.#port;
  }

  get connections(): number {
    return this.#pairs.size;
  }

  get accepted(): number {
    return this.#state.accepted;
  }

  get carried(): Simulator['carried'] {
    return this.#state.carried;
  }

  get peakHeld(): Simulator['peakHeld'] {
    return this.#state.peakHeld;
  }

  shape(line: LineOptions): void {
    this.#state.line = line;
  }

  blackHole(): void {
    this.#state.open = false;
  }

  pass(): void {
    this.#state.open = true;
    for (const direction of this.#directions) direction.pump();
  }

  strand(): void {
    for (const direction of this.#directions) direction.strand();
  }

  reset(): void {
    for (const [near, far] of this.#pairs) {
      near.resetAndDestroy();
      far.destroy();
    }
  }

  hangUp(): void {
    for (const [near, far] of this.#pairs) {
      near.end();
      far.end();
    }
  }

  refuse(): void {
    this.#server?.close();
  }

  async accept(): Promise<void> {
    this.#server = await listen((near) => this.#serve(near), this.#port);
    this.#port = (this.#server.address() as { port: number }).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const [near, far] of this.#pairs) {
      near.destroy();
      far.destroy();
    }
    const server = this.#server;
    if (server?.listening) await new Promise((resolve) => server.close(resolve));
  }

  #serve(near: Socket): void {
    this.#state.accepted++;
    const far = connect({ port: this.#target, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
    near.setNoDelay(true);
    const pair = [near, far] as const;
    this.#pairs.add(pair);
    const between = { env: this.#env, state: this.#state };
    const both = [
      makeDirection({ from: near, to: far, ...between, way: 'up' }),
      makeDirection({ from: far, to: near, ...between, way: 'down' }),
    ];
    for (const direction of both) this.#directions.add(direction);
    const gone = (): void => {
      if (!near.destroyed || !far.destroyed) return;
      this.#pairs.delete(pair);
      for (const direction of both) this.#directions.delete(direction);
    };
    for (const socket of pair) {
      socket.on('error', () => {});
      socket.once('close', () => {
        (socket === near ? far : near).destroy();
        gone();
      });
    }
  }
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

/** The line as it is now, and what it has carried. */
interface LineState {
  line: LineOptions;
  open: boolean;
  /** Connections so far. */
  accepted: number;
  readonly carried: Count;
  readonly held: Count;
  readonly peakHeld: Count;
}

interface DirectionOptions {
  readonly from: Socket;
  readonly to: Socket;
  readonly env: Env;
  readonly state: Readonly<LineState>;
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
