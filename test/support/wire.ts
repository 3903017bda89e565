import { connect, type Socket } from 'node:net';

/** A connection that collects what comes until the peer's FIN. */
export class Wire {
  readonly socket: Socket;
  #text = '';
  #over = false;
  #wake: () => void = () => {};

  constructor(port: number) {
    this.socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    this.socket.setEncoding('latin1');
    this.socket.on('data', (text: string) => {
      this.#text += text;
      this.#wake();
    });
    this.socket.on('error', (error) => {
      this.#text += `\nERROR ${error.message}`;
      this.#over = true;
      this.#wake();
    });
    this.socket.on('end', () => {
      this.#over = true;
      this.#wake();
    });
  }

  send(text: string): void {
    this.socket.write(text, 'latin1');
  }

  /** What came up to and with the first match; throws when the connection ends before. */
  async upTo(pattern: RegExp): Promise<string> {
    for (;;) {
      const match = pattern.exec(this.#text);
      if (match !== null) {
        const end = match.index + match[0].length;
        const text = this.#text.slice(0, end);
        this.#text = this.#text.slice(end);
        return text;
      }
      if (this.#over) throw new Error(`ended before ${pattern}: ${JSON.stringify(this.#text.slice(-500))}`);
      await this.#more();
    }
  }

  /** Says a command and resolves with what came up to and with its tagged response. */
  ask(tag: string, command: string): Promise<string> {
    this.send(`${tag} ${command}\r\n`);
    return this.upTo(new RegExp(`^${tag} (?:OK|NO|BAD)[^\\r\\n]*\\r\\n`, 'm'));
  }

  /** Everything until the peer's FIN. */
  async rest(): Promise<string> {
    while (!this.#over) await this.#more();
    return this.#text;
  }

  #more(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
