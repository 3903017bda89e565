import { once } from 'node:events';
import { type AddressInfo, createServer, connect as netConnect, type Socket } from 'node:net';
import { type Admission, type EntryId, type Envelope, newEntryId, type SpoolWriter, systemEnv } from '@postern/core';
import { onTestFinished } from 'vitest';
import type { RelayEvent } from '../event.ts';
import { compileRoutes } from '../route/routes.ts';
import { createIntake, type Intake } from './intake.ts';
import type { IntakeOptions } from './options.ts';

/** What a spool was given. */
export interface Taken {
  readonly id: EntryId;
  readonly envelope: Envelope;
  readonly text: string;
}

/** A listening intake. `store` is asked before an accept resolves. */
export async function listen(
  o: Partial<Omit<IntakeOptions, 'admit' | 'routes'>> & {
    admission?: Admission | (() => Promise<Admission>);
    store?: () => Promise<void>;
    match?: string[];
    /** What it is said of long lines once a message has ended. */
    told?: (longLines: boolean | undefined) => void;
  } = {},
): Promise<{ intake: Intake; port: number; taken: Taken[]; events: RelayEvent[] }> {
  const taken: Taken[] = [];
  const events: RelayEvent[] = [];
  const spool: SpoolWriter = {
    async accept(envelope, message, { id = newEntryId(systemEnv), signal, longLines } = {}) {
      const chunks: Uint8Array[] = [];
      for await (const chunk of message) chunks.push(chunk);
      o.told?.(longLines?.());
      await o.store?.();
      signal?.throwIfAborted();
      taken.push({ id, envelope, text: Buffer.concat(chunks).toString('latin1') });
      return id;
    },
  };
  const server = createServer({ allowHalfOpen: true });
  const routes = compileRoutes([{ match: o.match ?? ['*'], host: 'gate' }]);
  const { admission = { type: 'open', who: 'same-user' } as const } = o;
  const intake = createIntake({
    ...{ server, spool, routes: () => routes, hostname: 'laptop.example', env: systemEnv },
    admit: async () => (typeof admission === 'function' ? await admission() : admission),
    onEvent: (event) => void events.push(event),
    ...o,
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    await intake.close({ graceMs: 0 });
    server.close();
  });
  return { intake, port: (server.address() as AddressInfo).port, taken, events };
}

/** A client that speaks by hand. */
export interface Hand {
  readonly socket: Socket;
  /** Sends lines (CRLF added) and reads one whole reply to each. */
  say(...lines: string[]): Promise<string[]>;
  send(bytes: string | Uint8Array): void;
  /** One whole reply. */
  reply(): Promise<string>;
  /** Everything up to the end of the connection. */
  rest(): Promise<string>;
}

/** Connects, and reads nothing yet. */
export function hand(port: number): Hand {
  const socket = netConnect(port, '127.0.0.1');
  onTestFinished(() => void socket.destroy());
  let text = '';
  let ended = false;
  const waiters = new Set<() => void>();
  const wake = (): void => {
    for (const waiter of waiters) waiter();
    waiters.clear();
  };
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
    wake();
  });
  const end = (): void => {
    ended = true;
    wake();
  };
  socket.on('end', end).on('close', end).on('error', end);
  const change = (): Promise<void> => new Promise((resolve) => void waiters.add(resolve));
  const reply = async (): Promise<string> => {
    while (true) {
      const whole = /^(?:\d{3}-[^\r\n]*\r\n)*\d{3}(?: [^\r\n]*)?\r\n/.exec(text)?.[0];
      if (whole !== undefined) {
        text = text.slice(whole.length);
        return whole.trimEnd();
      }
      if (ended) return `closed ${text}`.trim();
      await change();
    }
  };
  return {
    socket,
    reply,
    send: (bytes) => void socket.write(bytes),
    async say(...lines) {
      const replies: string[] = [];
      for (const line of lines) {
        socket.write(`${line}\r\n`);
        replies.push(await reply());
      }
      return replies;
    },
    async rest() {
      while (!ended) await change();
      return text;
    },
  };
}

/** Connects, reads the greeting and says EHLO. */
export async function greet(port: number): Promise<Hand & { readonly ehlo: string }> {
  const client = hand(port);
  await client.reply();
  const [ehlo = ''] = await client.say('EHLO client.example');
  return { ...client, ehlo };
}
