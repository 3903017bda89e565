/** A dialogue as RFCs print it, played to a client: each line in its turn, and not one byte ahead. */
import type { Duplex } from 'node:stream';

/** One turn of a dialogue. */
export type Turn =
  /** The client writes this line. */
  | { readonly type: 'client'; readonly line: string }
  /** The client writes a line that matches. */
  | { readonly type: 'client-like'; readonly pattern: RegExp }
  /** The server writes this line. */
  | { readonly type: 'server'; readonly line: string }
  /** The server closes its side. */
  | { readonly type: 'close' }
  /** The client closes its side. */
  | { readonly type: 'end' };

/**
 * Reads a dialogue as RFCs print it: `C: line` (the space may be left out), `C~ regular expression`, `S: line`, `S! close`,
 * `C! close`. Empty lines and lines that start with `#` are skipped; leading white space too. Throws `RangeError` on
 * any other line.
 */
export function parseTranscript(text: string): Turn[] {
  const turns: Turn[] = [];
  for (const raw of text.split('\n')) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const rest = line.slice(2).replace(/^ /, '');
    if (line.startsWith('C:')) turns.push({ type: 'client', line: rest });
    else if (line.startsWith('C~')) turns.push({ type: 'client-like', pattern: new RegExp(rest) });
    else if (line.startsWith('S:')) turns.push({ type: 'server', line: rest });
    else if (line === 'S! close') turns.push({ type: 'close' });
    else if (line === 'C! close') turns.push({ type: 'end' });
    else throw new RangeError(`not a turn: ${line}`);
  }
  return turns;
}

/** How far a client may be ahead when the server speaks. */
export interface TranscriptOptions {
  /**
   * Called after the client's lines of a group were read: lets everything run that would write more, so that being
   * ahead shows.
   */
  readonly settle?: () => Promise<void>;
}

/**
 * Plays the server's part of a dialogue on `far`. Every client line must come, in order and as written, before the
 * server's next; and no byte more than that (so a dialogue shows what is pipelined, and what waits). Resolves when it
 * is played to its end; rejects with the turn at which the client differed.
 */
export async function playServer(far: Duplex, text: string, o: TranscriptOptions = {}): Promise<void> {
  const reader = lineReader(far);
  let group = false;
  for (const [at, turn] of parseTranscript(text).entries()) {
    const where = `turn ${at + 1}`;
    if (turn.type === 'client' || turn.type === 'client-like') {
      const line = await reader.line();
      const wanted = turn.type === 'client' ? turn.line : String(turn.pattern);
      const same = turn.type === 'client' ? line === turn.line : line !== undefined && turn.pattern.test(line);
      if (!same) throw new Error(`${where}: expected C: ${wanted}, got ${JSON.stringify(line ?? 'end of input')}`);
      group = true;
      continue;
    }
    if (turn.type === 'end') {
      const line = await reader.line();
      if (line !== undefined) throw new Error(`${where}: expected the client to close, got ${JSON.stringify(line)}`);
      continue;
    }
    if (group) {
      await o.settle?.();
      const ahead = reader.buffered();
      if (ahead !== '') throw new Error(`${where}: the client is ahead with ${JSON.stringify(ahead)}`);
      group = false;
    }
    if (turn.type === 'close') far.end();
    else far.write(`${turn.line}\r\n`, 'latin1');
  }
}

function lineReader(far: Duplex): { line(): Promise<string | undefined>; buffered(): string } {
  let text = '';
  let ended = false;
  let wake = (): void => {};
  far.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
    wake();
  });
  const end = (): void => {
    ended = true;
    wake();
  };
  far.on('end', end).on('close', end).on('error', end);
  return {
    async line() {
      for (;;) {
        const split = text.indexOf('\r\n');
        if (split !== -1) {
          const line = text.slice(0, split);
          text = text.slice(split + 2);
          return line;
        }
        if (ended) return undefined;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
    buffered: () => text,
  };
}
