/**
 * An SMTP session passed through, but for recipients of other domains. What the filter takes for a command and for message text must be
 * what the server behind it takes for that, or a recipient could be smuggled past. Hence the law of this file: a command reaches the
 * server only as a CRLF line with a verb of {@link VERBS}; only extensions of {@link EXTENSIONS} are offered; message text with a bare
 * CR or LF never reaches its end (RFC 5321 §2.3.8, §4.1.1.4).
 */

import type { ForwardPath } from '../envelope.ts';
import type { Reply } from '../outcome.ts';
import { domainOf, localPartOf, parseForwardPath } from './path.ts';
import { createReplyParser, formatReply } from './reply.ts';

/** Longest command line, octets with its CRLF. RFC 5321 §4.5.3.1.4 says 512, extensions add to it. */
export const FILTER_LINE_OCTETS = 4096;
/** Commands whose replies may be outstanding; more are held back (RFC 2920 sets no limit). */
export const FILTER_PENDING = 1000;

/** What one step makes. */
export interface RcptFilterStep {
  readonly toServer: Buffer;
  readonly toClient: Buffer;
  /** Cut the server off now, without an orderly end, so that it cannot take what it has for a message. The client goes on. */
  readonly dropServer: boolean;
  /** The session is over once `toClient` is written; cut the server off. */
  readonly end: boolean;
  /** Recipients refused in this step, as the client wrote them, not escaped. */
  readonly refused: readonly string[];
}

/** A filter between one client and one server. */
export interface RcptFilter {
  fromClient(chunk: Uint8Array): RcptFilterStep;
  fromServer(chunk: Uint8Array): RcptFilterStep;
  /** Bytes of the client are kept back until the server has answered: read no more of them until a `fromServer` clears it. */
  readonly holding: boolean;
}

const VERBS: ReadonlySet<string> = new Set([
  'EHLO',
  'HELO',
  'MAIL',
  'RCPT',
  'DATA',
  'BDAT',
  'RSET',
  'NOOP',
  'QUIT',
  'VRFY',
  'HELP',
]);
/** Those whose commands the filter understands, or that add none. */
const EXTENSIONS: ReadonlySet<string> = new Set([
  'PIPELINING',
  'CHUNKING',
  'BINARYMIME',
  'SIZE',
  '8BITMIME',
  'SMTPUTF8',
  'DSN',
  'ENHANCEDSTATUSCODES',
  'DELIVERBY',
  'MT-PRIORITY',
  'HELP',
  'VRFY',
  'LIMITS',
]);

const LF = 10;
const CR = 13;
const DOT = 46;

/** In the order of the client's commands: those the server answers, and answers of our own that wait for their turn. */
type Pending = { readonly type: 'ehlo' | 'data' | 'other' } | { readonly type: 'own'; readonly text: string };
type Mode =
  | { readonly type: 'command' }
  /** DATA was sent on; what follows depends on the reply. */
  | { readonly type: 'asked' }
  /** `seen`: how far into CRLF `.` CRLF. `dropping`: the server is gone, the text goes nowhere. */
  | { readonly type: 'text'; seen: 'start' | 'dot' | 'dotcr' | 'in' | 'cr'; dropping: boolean }
  | { readonly type: 'chunk'; left: number }
  | { readonly type: 'over' };

/** Makes an {@link RcptFilter}. `domains`: those whose recipients pass, any case, A-labels. `postmaster` without a domain always passes. */
export function createRcptFilter(o: { domains: readonly string[] }): RcptFilter {
  return new Filter(new Set(o.domains.map((domain) => domain.toLowerCase())));
}

class Filter implements RcptFilter {
  readonly #domains: ReadonlySet<string>;
  readonly #replies = createReplyParser();
  /** The greeting is the first reply. */
  #pending: Pending[] = [{ type: 'other' }];
  #mode: Mode = { type: 'command' };
  #input: Buffer = Buffer.alloc(0);
  #toServer: Buffer[] = [];
  #toClient: Buffer[] = [];
  #refused: string[] = [];
  #dropServer = false;
  #end = false;
  /** The server offered CHUNKING: without, it would read the octets of a BDAT as commands. */
  #chunking = false;

  constructor(domains: ReadonlySet<string>) {
    this.#domains = domains;
  }

  get holding(): boolean {
    return this.#mode.type === 'asked' || (this.#mode.type === 'command' && this.#pending.length >= FILTER_PENDING);
  }

  fromClient(chunk: Uint8Array): RcptFilterStep {
    this.#input = this.#input.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#input, chunk]);
    this.#run();
    return this.#step();
  }

  fromServer(chunk: Uint8Array): RcptFilterStep {
    if (this.#mode.type === 'over' || (this.#mode.type === 'text' && this.#mode.dropping)) return this.#step();
    for (const event of this.#replies.push(chunk)) {
      if (event.type === 'malformed') {
        this.#finish('421 4.3.0 The server behind this port does not speak SMTP');
        break;
      }
      this.#answer(event.reply);
    }
    this.#run();
    return this.#step();
  }

  #step(): RcptFilterStep {
    const step: RcptFilterStep = {
      toServer: Buffer.concat(this.#toServer),
      toClient: Buffer.concat(this.#toClient),
      refused: this.#refused,
      dropServer: this.#dropServer,
      end: this.#end,
    };
    this.#toServer = [];
    this.#toClient = [];
    this.#refused = [];
    return step;
  }

  #run(): void {
    for (let more = true; more && this.#input.length > 0 && !this.holding; ) {
      if (this.#mode.type === 'command') more = this.#command();
      else if (this.#mode.type === 'text') this.#text(this.#mode);
      else if (this.#mode.type === 'chunk') this.#chunk(this.#mode);
      else {
        this.#input = Buffer.alloc(0);
        return;
      }
    }
  }

  /** One line, or false when there is none yet. */
  #command(): boolean {
    const end = this.#input.indexOf(LF);
    if ((end === -1 ? this.#input.length : end + 1) > FILTER_LINE_OCTETS) {
      this.#finish('500 5.5.2 Line too long');
      return false;
    }
    if (end === -1) return false;
    const line = this.#input.subarray(0, end + 1);
    this.#input = this.#input.subarray(end + 1);
    const text = line.toString('latin1', 0, Math.max(0, end - 1));
    if (line[end - 1] !== CR || /[\0\r]/.test(text))
      this.#reply('500 5.5.2 A command ends in CRLF, and holds no other CR and no NUL');
    else this.#judge(text, line);
    return true;
  }

  #judge(text: string, line: Buffer): void {
    const verb = /^[A-Za-z]+(?=[ \t]|$)/.exec(text)?.[0]?.toUpperCase() ?? '';
    if (!VERBS.has(verb)) {
      this.#reply('502 5.5.1 Not offered here');
      return;
    }
    if (verb === 'RCPT') {
      const refusal = this.#refusal(line.toString('utf8', 0, line.length - 2));
      if (refusal !== undefined) {
        this.#reply(refusal);
        return;
      }
    }
    if (verb === 'BDAT') {
      const left = /^BDAT +(\d{1,15})(?: +LAST)? *$/i.exec(text)?.[1];
      // What follows cannot be told from commands.
      if (left === undefined || !this.#chunking) {
        this.#finish('503 5.5.1 BDAT needs CHUNKING and a size');
        return;
      }
      this.#mode = { type: 'chunk', left: Number(left) };
    }
    if (verb === 'DATA') {
      // A server may take DATA with an argument for DATA, or not: the filter would not know.
      if (!/^DATA *$/i.test(text)) {
        this.#reply('501 5.5.4 DATA takes no argument');
        return;
      }
      this.#mode = { type: 'asked' };
    }
    if (verb === 'EHLO' || verb === 'HELO') this.#chunking = false;
    this.#toServer.push(line);
    this.#pending.push({ type: verb === 'EHLO' ? 'ehlo' : verb === 'DATA' ? 'data' : 'other' });
  }

  /** Why a RCPT line does not pass. */
  #refusal(text: string): string | undefined {
    const given = /^RCPT +TO: *<("(?:[^"\\]|\\.)*"[^>]*|[^">]*)>(?: [^<>]*)?$/i.exec(text.replaceAll('\t', ' '))?.[1];
    if (given === undefined) return '501 5.5.4 RCPT TO:<address> is what can be read here';
    let path: ForwardPath;
    try {
      path = parseForwardPath(given);
    } catch {
      this.#refused.push(given);
      return '553 5.1.3 That address cannot be read here';
    }
    const domain = domainOf(path);
    // A source route, `user%other@here`, `other!user@here` and `"user@other"@here` ask to be passed on to elsewhere (RFC 5321 appendix C, §3.6.1).
    const routed = given.startsWith('@') || /[%!@]/.test(localPartOf(path));
    if (!routed && (domain === '' || this.#domains.has(domain))) return undefined;
    this.#refused.push(given);
    return '550 5.7.1 No mail for that address is taken here';
  }

  /** An answer of our own, in its turn. */
  #reply(text: string): void {
    if (this.#pending.length === 0) this.#toClient.push(Buffer.from(`${text}\r\n`));
    else this.#pending.push({ type: 'own', text });
  }

  #finish(text: string): void {
    this.#toClient.push(Buffer.from(`${text}\r\n`));
    this.#mode = { type: 'over' };
    this.#input = Buffer.alloc(0);
    this.#end = true;
    this.#dropServer = true;
  }

  /** A reply of the server's. One that answers nothing (421 before a close) passes too. */
  #answer(reply: Reply): void {
    const asked = this.#pending.shift();
    const offer = asked?.type === 'ehlo' && reply.code === 250;
    if (offer) this.#chunking = reply.lines.some((line) => /^CHUNKING\b/i.test(line));
    this.#toClient.push(formatReply(offer ? hideExtensions(reply) : reply));
    if (asked?.type === 'data') {
      this.#mode = reply.code === 354 ? { type: 'text', seen: 'start', dropping: false } : { type: 'command' };
    }
    for (let next = this.#pending[0]; next?.type === 'own'; next = this.#pending[0]) {
      this.#toClient.push(Buffer.from(`${next.text}\r\n`));
      this.#pending.shift();
    }
  }

  /** Message text up to its end, or to its first fault. */
  #text(mode: Mode & { type: 'text' }): void {
    for (let at = 0; at < this.#input.length; at += 1) {
      const octet = this.#input[at];
      const before = mode.seen;
      if (before === 'dotcr' && octet === LF) {
        this.#textEnd(mode, at + 1);
        return;
      }
      const stray = (octet === LF) !== (before === 'cr' || before === 'dotcr');
      if (stray && !mode.dropping) {
        // Without its end the server does not take the message; the client learns why at its own end.
        this.#dropServer = true;
        mode.dropping = true;
      }
      if (octet === LF && before === 'cr') mode.seen = 'start';
      else if (octet === CR) mode.seen = before === 'dot' ? 'dotcr' : 'cr';
      else mode.seen = before === 'start' && octet === DOT ? 'dot' : 'in';
    }
    if (!mode.dropping) this.#toServer.push(this.#input);
    this.#input = Buffer.alloc(0);
  }

  #textEnd(mode: Mode & { type: 'text' }, end: number): void {
    if (mode.dropping) {
      this.#finish('554 5.6.0 A line of the message ends in a bare CR or LF; send CRLF line ends');
      return;
    }
    this.#toServer.push(this.#input.subarray(0, end));
    this.#input = this.#input.subarray(end);
    this.#pending.push({ type: 'other' });
    this.#mode = { type: 'command' };
  }

  #chunk(mode: Mode & { type: 'chunk' }): void {
    const octets = this.#input.subarray(0, mode.left);
    this.#toServer.push(octets);
    this.#input = this.#input.subarray(octets.length);
    mode.left -= octets.length;
    if (mode.left === 0) this.#mode = { type: 'command' };
  }
}

function hideExtensions(reply: Reply): Reply {
  const [greeting = '', ...offers] = reply.lines;
  const known = offers.filter((line) => EXTENSIONS.has((/^[^\s=]+/.exec(line)?.[0] ?? '').toUpperCase()));
  return { ...reply, lines: [greeting, ...known] };
}
