/** A throwaway host from real parts, on loopback: what is started here is stopped by its handle. */

export { reachableFile, reachableProgram } from './accessible.ts';
export { type Account, DEFAULT_ROOT_ID } from './account.ts';
export type { GateContext } from './context.ts';
export { GateError, type GateErrorCode } from './errors.ts';
export type { GateEvent, OnGateEvent } from './event.ts';
export { startExim } from './exim.ts';
export { giveTo, makeOwned, writeOwned } from './files.ts';
export { type FurtherSshd, type Gate, type GateClient, type GateOptions, startGate } from './gate.ts';
export { DOVECOT_VERSIONS, type ImapdOptions, takesVersionedFile } from './imapd.ts';
export { type KeyFile, type KeyType, makeKey } from './keys.ts';
export type { LineLog } from './log.ts';
export { makeMaildir, readMaildir, seedMaildir } from './maildir.ts';
export { makeMessage, type SeedMessage } from './message.ts';
export { ensurePackages, type PackageOptions, type UnpackedPackage } from './packages.ts';
export { freePort } from './port.ts';
export { descendants, MARK, type ProcessEntry, signalAll } from './processes.ts';
export { findPreload, findProgram, PROGRAMS, type Program, type ProgramOptions, type ProgramSpec } from './programs.ts';
export { type Daemon, type DaemonOptions, type RunResult, run, startDaemon } from './run.ts';
export { execLine, writeScript } from './script.ts';
export { type Server, type ServerOptions, startServer } from './server.ts';
export { DEFAULT_SIZE_LIMIT, GATE_HOSTNAME, type SmtpServer, type SmtpServerOptions } from './smtp-server.ts';
export type { SshdOptions, SshServer } from './sshd.ts';
