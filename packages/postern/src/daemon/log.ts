/** The log: pino, its format chosen by where it goes. */
import { fstatSync } from 'node:fs';
import { escapeJson } from '@postern/core';
import { type Logger, type LoggerOptions, pino } from 'pino';

export type { Logger } from 'pino';

/**
 * How log lines look: `json`, one object a line; `text`, with the time, in colours on a terminal; `journal`, with a priority for
 * systemd's journal, which knows the time (sd-daemon(3)).
 */
export type LogFormat = 'json' | 'text' | 'journal';

/** What {@link createLogger} needs. */
export interface LogOptions {
  readonly format: LogFormat;
  /** stderr is a terminal: colours and the time of day. */
  readonly tty: boolean;
  /** Also what only a bug hunt needs. */
  readonly debug: boolean;
  /** Receives the lines. */
  readonly write: (text: string) => void;
}

/** Priorities of syslog(3) by pino's levels. */
const PRIORITIES: Readonly<Record<string, number>> = { trace: 7, debug: 7, info: 6, warn: 4, error: 3, fatal: 2 };

/** Whether `fd` leads to the journal: systemd says so in `JOURNAL_STREAM` (systemd.exec(5)), as device and inode. */
export function leadsToJournal(stream: string | undefined, fd: number): boolean {
  if (!stream) return false;
  try {
    const { dev, ino } = fstatSync(fd);
    return stream === `${dev}:${ino}`;
  } catch {
    return false;
  }
}

/** Never a value of these, wherever they stand. */
const SECRETS = ['password', 'pass', 'secret', 'passphrase', '*.password', '*.pass', '*.secret', '*.passphrase'];

/** The daemon's log. Every line is written before the call returns, so that nothing is lost by an exit. */
export async function createLogger(o: LogOptions): Promise<Logger> {
  const level = o.debug ? 'debug' : 'info';
  const options: LoggerOptions = {
    ...{ level, base: null, redact: { paths: SECRETS, censor: '[secret]' } },
    formatters: { level: (label) => ({ level: label }) },
  };
  if (o.format === 'json') {
    const write = (line: string): void => o.write(escapeJson(line));
    return pino({ ...options, timestamp: pino.stdTimeFunctions.isoTime }, { write });
  }
  if (o.format === 'journal')
    return pino({ ...options, timestamp: false }, { write: (line) => o.write(forJournal(line)) });
  // Two megabytes that only this form needs.
  const { prettyFactory } = await import('pino-pretty');
  const format = prettyFactory({
    colorize: o.tty,
    translateTime: o.tty ? 'SYS:HH:MM:ss' : 'SYS:yyyy-mm-dd HH:MM:ss.l',
    ignore: 'pid,hostname',
    singleLine: true,
    hideObject: true,
  });
  return pino(options, { write: (line: string) => o.write(`${String(format(JSON.parse(line))).trimEnd()}\n`) });
}

function forJournal(line: string): string {
  const { level, msg } = JSON.parse(line) as { level: string; msg?: string };
  return `<${PRIORITIES[level] ?? 6}>${msg ?? ''}\n`;
}
