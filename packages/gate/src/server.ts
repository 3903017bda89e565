/** A server counts as started when it says or shows that it listens, and as failed with its last words. */
import type { GateContext } from './context.ts';
import { GateError } from './errors.ts';
import { onFreePort, waitForGreeting } from './port.ts';
import { descendants, type ProcessEntry, signalAll } from './processes.ts';
import { type Daemon, type DaemonOptions, startDaemon } from './run.ts';

/** What one server has that the others have not. */
export interface ServerOptions {
  /** In its log events and messages. */
  name: string;
  /** A fixed port; default a free one. */
  port?: number | undefined;
  /** Writes what depends on the port and gives the process. */
  prepare(port: number): Promise<Omit<DaemonOptions, 'name' | 'onLine'>>;
  /** Whether it listens; false once it will not. Default: it has greeted whoever connects. */
  listens?(daemon: Daemon, port: number): Promise<boolean>;
  /** What it logs beside its output. */
  log?(): Promise<string>;
  /** The processes beneath it that `stop` ends as well. Default all. */
  ends?(process: ProcessEntry): boolean;
}

/** A server on a port of 127.0.0.1 that it keeps when it is stopped and started again. */
export interface Server {
  readonly port: number;
  /** Its process, or the last one. */
  daemon(): Daemon;
  /** Process ids of the server, first, and of everything beneath it. */
  pids(): Promise<number[]>;
  /** Ends it at once. */
  stop(): Promise<void>;
  /** Starts again on the same port. */
  start(): Promise<void>;
}

/** Starts a server of the gate. @throws GateError `start_failed` with the end of its log. */
export async function startServer(context: GateContext, o: ServerOptions): Promise<Server> {
  const listen = (port: number): Promise<Running | 'port taken'> => launch(context, o, port);
  let { daemon, port } = await onFreePort(o.port, listen);
  return {
    port,
    daemon: () => daemon,
    pids: async () => [daemon.pid, ...(await descendants(daemon.pid)).map(({ pid }) => pid)],
    async stop() {
      const beneath = (await descendants(daemon.pid)).filter((process) => o.ends?.(process) ?? true);
      daemon.kill('SIGKILL');
      await daemon.ended;
      signalAll(
        beneath.map(({ pid }) => pid),
        'SIGKILL',
      );
      context.daemons.delete(daemon);
    },
    async start() {
      if (daemon.running) throw new GateError('bad_option', `${o.name} is running already`);
      ({ daemon, port } = await onFreePort(port, listen));
    },
  };
}

interface Running {
  daemon: Daemon;
  port: number;
}

/** Starts once on this port; tells when the port was taken meanwhile. */
async function launch(context: GateContext, o: ServerOptions, port: number): Promise<Running | 'port taken'> {
  const { name } = o;
  const { daemons, onEvent, env, signal } = context;
  const daemon = startDaemon({
    name,
    ...(await o.prepare(port)),
    onLine: (line) => onEvent({ type: 'log', server: name, line }),
  });
  daemons.add(daemon);
  if (await (o.listens?.(daemon, port) ?? waitForGreeting(port, { daemon, env, signal }))) {
    onEvent({ type: 'listening', server: name, port });
    return { daemon, port };
  }
  daemon.kill('SIGKILL');
  const how = await daemon.ended;
  daemons.delete(daemon);
  const log = `${daemon.log.tail()}\n${(await o.log?.()) ?? ''}`.trim();
  if (log.includes('Address already in use')) return 'port taken';
  throw new GateError('start_failed', `${name} did not start (${how}): ${log}`);
}
