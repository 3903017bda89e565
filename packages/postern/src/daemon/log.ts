import { type Logger, pino } from 'pino';
import pretty from 'pino-pretty';

export type { Logger } from 'pino';

/** How log lines look. */
export interface LogOptions {
  /** One JSON object a line. */
  readonly json: boolean;
  /** stderr is a terminal: colours and the time of day. */
  readonly tty: boolean;
  /** Also what only a bug hunt needs. */
  readonly debug: boolean;
  /** Receives the lines. */
  readonly write: (text: string) => void;
}

/** Never a value of these, wherever they stand. */
const SECRETS = ['password', 'pass', 'secret', 'passphrase', '*.password', '*.pass', '*.secret', '*.passphrase'];

/** The daemon's log. Every line is written before the call returns, so that nothing is lost by an exit. */
export function createLogger(o: LogOptions): Logger {
  const level = o.debug ? 'debug' : 'info';
  const options = { level, base: null, redact: { paths: SECRETS, censor: '[secret]' } };
  if (o.json) return pino({ ...options, timestamp: pino.stdTimeFunctions.isoTime }, { write: o.write });
  const format = pretty.prettyFactory({
    colorize: o.tty,
    translateTime: o.tty ? 'SYS:HH:MM:ss' : 'SYS:yyyy-mm-dd HH:MM:ss.l',
    ignore: 'pid,hostname',
    singleLine: true,
    hideObject: true,
  });
  return pino(options, { write: (line: string) => o.write(`${String(format(JSON.parse(line))).trimEnd()}\n`) });
}
