/** A server gets a port that was free a moment ago, and another one when that was taken meanwhile. */
import { connect, createServer } from 'node:net';
import { type Env, sleep } from '@postern/core';
import { GateError } from './errors.ts';
import type { Daemon } from './run.ts';

const LOOPBACK = '127.0.0.1';
const RETRY_MS = 20;
/** A server that has not greeted by then never will. */
const START_LIMIT_MS = 60_000;
/** A free port may be taken by another between the look and the bind: how often a server is started anew for that. */
const PORT_TRIES = 5;

/** A TCP port of 127.0.0.1 that nobody listens on at this moment. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, LOOPBACK, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

/** Runs `start` with a free port, again with another when it answers `port taken`. A port given is tried once. */
export async function onFreePort<T>(
  port: number | undefined,
  start: (port: number) => Promise<T | 'port taken'>,
): Promise<T> {
  for (let tries = 0; tries < (port === undefined ? PORT_TRIES : 1); tries += 1) {
    const started = await start(port ?? (await freePort()));
    if (started !== 'port taken') return started;
  }
  throw new GateError('start_failed', port === undefined ? 'no free port on 127.0.0.1' : `port ${port} is in use`);
}

/**
 * Resolves true when the port has sent a first line; false when the server ended before, or sent none in a minute and was
 * killed for it. Rejects with the signal's reason.
 */
export async function waitForGreeting(
  port: number,
  o: { daemon: Daemon; env: Env; signal: AbortSignal },
): Promise<boolean> {
  const until = o.env.monotonicNow() + START_LIMIT_MS;
  while (o.daemon.running) {
    if (await greets(port)) return o.daemon.running;
    if (o.env.monotonicNow() > until) o.daemon.kill('SIGKILL');
    await sleep(o.env, RETRY_MS, o.signal);
  }
  return false;
}

function greets(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, LOOPBACK);
    const end = (greeted: boolean): void => {
      socket.destroy();
      resolve(greeted);
    };
    socket.setTimeout(START_LIMIT_MS, () => end(false));
    socket.once('data', () => end(true));
    socket.once('error', () => end(false));
    socket.once('close', () => end(false));
  });
}
