import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { virtualEnv } from '@postern/core/testing';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Simulator, startSimulator } from './simulator.ts';

describe('a simulated line', () => {
  let echo: Server;
  let port: number;
  let simulator: Simulator;
  beforeEach(async () => {
    echo = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => {});
      socket.pipe(socket);
    }).listen(0, '127.0.0.1');
    await once(echo, 'listening');
    port = (echo.address() as { port: number }).port;
  });
  afterEach(async () => {
    await simulator[Symbol.asyncDispose]();
    await new Promise((resolve) => echo.close(resolve));
  });
  const dial = (): Socket => connect({ port: simulator.port, host: '127.0.0.1' });

  test('carries bytes and ends both ways', async () => {
    simulator = await startSimulator({ port });
    const socket = dial();
    socket.end('hello');
    const [data] = (await once(socket, 'data')) as [Buffer];
    expect(data.toString()).toBe('hello');
    await once(socket, 'end');
    expect(simulator.carried).toEqual({ up: 5, down: 5 });
  });

  test('delays each way', async () => {
    const env = virtualEnv();
    simulator = await startSimulator({ port, delayMs: 100, env });
    const socket = dial();
    socket.write('x');
    let arrived = -1;
    socket.once('data', () => {
      arrived = env.monotonicNow();
    });
    while (arrived < 0) await env.step();
    expect(arrived).toBeGreaterThanOrEqual(200);
    socket.destroy();
  });

  test('a black hole takes connections and bytes and gives nothing until it passes', async () => {
    simulator = await startSimulator({ port });
    simulator.blackHole();
    const socket = dial();
    await once(socket, 'connect');
    socket.write('held');
    simulator.pass();
    const [data] = (await once(socket, 'data')) as [Buffer];
    expect(data.toString()).toBe('held');
    socket.destroy();
  });

  test('resets, hangs up, refuses and accepts again', async () => {
    simulator = await startSimulator({ port });
    const reset = dial();
    reset.write('x');
    await once(reset, 'data');
    simulator.reset();
    expect((await once(reset, 'error'))[0]).toMatchObject({ code: 'ECONNRESET' });
    const ended = dial();
    ended.write('x');
    await once(ended, 'data');
    simulator.hangUp();
    await once(ended, 'end');
    simulator.refuse();
    expect((await once(dial(), 'error'))[0]).toMatchObject({ code: 'ECONNREFUSED' });
    await simulator.accept();
    const again = dial();
    again.write('y');
    await once(again, 'data');
    again.destroy();
  });
});
