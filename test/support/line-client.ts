import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { hostPort } from './postern.ts';

/** A line-wise client of an IMAP or SMTP listener. */
export interface LineClient {
  readonly socket: Socket;
  /** Resolves once the text was read, from where the last one ended; the rest stays for the next. */
  said(text: string): Promise<void>;
  /** Says a line and waits for the answer. */
  ask(line: string, answer: string): Promise<void>;
  /** Resolves when it is closed, however. */
  readonly ended: Promise<void>;
  all(): string;
}

/** Connects to `address`, as the ready line gives it. */
export function talkTo(address: string | undefined): LineClient {
  const socket = connect(hostPort(address));
  let text = '';
  let from = 0;
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
  });
  socket.on('error', () => {});
  const ended = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  const said = async (wanted: string): Promise<void> => {
    for (let at = text.indexOf(wanted, from); ; at = text.indexOf(wanted, from)) {
      if (at >= 0) {
        from = at + wanted.length;
        return;
      }
      await Promise.race([once(socket, 'data'), ended.then(() => Promise.reject(new Error(`ended after ${text}`)))]);
    }
  };
  return {
    ...{ socket, ended, said },
    all: () => text,
    async ask(line, answer) {
      socket.write(`${line}\r\n`);
      await said(answer);
    },
  };
}
