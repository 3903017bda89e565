/**
 * Firefox's and Thunderbird's remote control, as much of it as tests need: one command at a time, one answer to each.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** Largest packet taken, bytes: a script's whole result. */
const MAX_PACKET = 64 * 1024 * 1024;
/** Digits of a packet's length. */
const MAX_DIGITS = 9;
/**
 * The longest timer there is: a test has its own limit. Without one (`null`) Gecko 153 does not wait for a script at
 * all.
 */
const SCRIPT_LIMIT_MS = 2 ** 31 - 1;

/** Scripts and clicks inside a running Gecko program, through its own remote control. */
export interface Marionette extends AsyncDisposable {
  /** Any command of the protocol, such as `WebDriver:GetTitle`. Rejects with the far side's error. */
  send(name: string, parameters?: object): Promise<unknown>;
  /**
   * Runs the body of an async function with the program's own privileges; `args` are its `args`. Resolves with what it
   * returns, which must fit in JSON; rejects with what it throws.
   */
  run<T>(body: string, ...args: readonly unknown[]): Promise<T>;
  /** Presses and releases the first mouse button; CSS pixels from the window's top left corner. */
  click(at: { readonly x: number; readonly y: number }): Promise<void>;
}

type Packet = readonly [1, number, { readonly error: string; readonly message: string } | null, unknown];

/**
 * Connects to `127.0.0.1:port` and starts a session with system access (Marionette protocol 3: `length:json`, a command
 * `[0, id, name, parameters]`, its answer `[1, id, error, result]`). The program must have been started with
 * `--marionette` and `--remote-allow-system-access`. It takes one session at a time.
 */
export async function connectMarionette(port: number): Promise<Marionette> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  const waiting = new Map<number, (packet: Packet) => void>();
  let failed: Error | undefined;
  const lost = new Promise<never>((_, reject) => {
    const fail = (error: Error): void => {
      failed ??= error;
      reject(failed);
    };
    receive(socket, { packet: (packet) => waiting.get(packet[1])?.(packet), fail });
    socket.once('error', fail);
    socket.once('close', () => fail(new Error('the remote control ended')));
  });
  lost.catch(() => undefined);
  let id = 0;
  const send = async (name: string, parameters: object = {}): Promise<unknown> => {
    id += 1;
    const mine = id;
    const answer = new Promise<Packet>((resolve) => waiting.set(mine, resolve));
    const json = Buffer.from(JSON.stringify([0, mine, name, parameters]));
    socket.write(Buffer.concat([Buffer.from(`${json.length}:`), json]));
    const [, , error, result] = await Promise.race([answer, lost]);
    waiting.delete(mine);
    if (error !== null) throw new Error(`${name}: ${error.error}: ${error.message}`);
    return result;
  };
  await send('WebDriver:NewSession', { capabilities: { alwaysMatch: { acceptInsecureCerts: false } } });
  await send('Marionette:SetContext', { value: 'chrome' });
  await send('WebDriver:SetTimeouts', { script: SCRIPT_LIMIT_MS });
  return {
    send,
    run: (body, ...args) => runScript(send, body, args),
    click: async ({ x, y }) => void (await send('WebDriver:PerformActions', { actions: [clickAt(x, y)] })),
    [Symbol.asyncDispose]: async () => void socket.destroy(),
  };
}

function receive(socket: Socket, on: { packet(packet: Packet): void; fail(error: Error): void }): void {
  let rest: Buffer = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    for (;;) {
      const colon = rest.subarray(0, MAX_DIGITS + 1).indexOf(':');
      if (colon < 0 && rest.length <= MAX_DIGITS) return;
      const length = Number(rest.subarray(0, Math.max(colon, 0)).toString('latin1') || Number.NaN);
      if (!(length <= MAX_PACKET)) return void socket.destroy(new Error('not a packet of the remote control'));
      if (rest.length < colon + 1 + length) return;
      const packet: unknown = JSON.parse(rest.subarray(colon + 1, colon + 1 + length).toString('utf8'));
      rest = rest.subarray(colon + 1 + length);
      // The first packet is a greeting, an object.
      if (Array.isArray(packet)) on.packet(packet as unknown as Packet);
    }
  });
}

async function runScript<T>(
  send: (name: string, parameters: object) => Promise<unknown>,
  body: string,
  args: readonly unknown[],
): Promise<T> {
  const script = `
    const done = arguments[arguments.length - 1];
    (async (...args) => { ${body} })(...[...arguments].slice(0, -1)).then(
      (value) => done({ value }),
      (error) => done({ error: String(error) + "\\n" + (error && error.stack) }),
    );`;
  const answer = await send('WebDriver:ExecuteAsyncScript', { script, args });
  const { value } = answer as { value: { value?: T; error?: string } | null };
  if (value === null) throw new Error('a script was interrupted: a dialogue came up, or its window went');
  if (value.error !== undefined) throw new Error(value.error);
  return value.value as T;
}

function clickAt(x: number, y: number): object {
  return {
    type: 'pointer',
    id: 'mouse',
    parameters: { pointerType: 'mouse' },
    actions: [
      { type: 'pointerMove', origin: 'viewport', duration: 0, x: Math.round(x), y: Math.round(y) },
      { type: 'pointerDown', button: 0 },
      { type: 'pointerUp', button: 0 },
    ],
  };
}
