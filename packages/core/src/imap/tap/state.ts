/** Where a carried session stands: one record, that each room of the tap reads and changes. */
import type { Crossing } from './crossing.ts';
import { type Destination, type Flight, isFlight, type Own } from './flight.ts';
import { commandAnnounces, responseAnnounces, StreamFramer } from './framing.ts';
import type { Fresh } from './fresh.ts';
import { MAX_TRACKED_COMMAND_LINE, MAX_TRACKED_RESPONSE_LINE } from './limits.ts';
import type { Mailbox } from './mailbox.ts';
import { Out } from './out.ts';

/** What is to be done after an input. */
export interface TapActions {
  readonly toClient: readonly Buffer[];
  readonly toFar: readonly Buffer[];
  /** The session is over: close both sides behind what is written. */
  readonly end?: { readonly why: string };
  /** The client's session stands on the new far one. */
  readonly carried?: true;
}

/** What a `Tap` is made with. */
export interface TapOptions {
  /** Of the far side, as told at login. */
  readonly capabilities: readonly string[];
  /** What begins the tags of our own questions; no client uses it. Letters and digits. */
  readonly prefix: string;
}

/** What is given to the client of a response, when not all of it is: after a death it goes on at that octet. */
export interface Open {
  readonly flight: Flight | undefined;
  readonly uid: number;
  /** Which of its literals, from 1 on; 0: none was begun. */
  literal: number;
  /** The end of the line that announces it, and octets of it given. */
  tail: string;
  octets: number;
}

/** A response that is asked for again to go on with it. */
export interface Resumed {
  readonly tag: string;
  readonly n: number;
  literal: number;
  skip: number;
  isMatched: boolean;
}

/** What is done with the rest of the response that has begun. */
export type Route = 'pass' | 'drop' | 'ask' | 'resume' | { readonly flight: Flight };

/** `plain`: bytes pass and nothing is tracked. */
export type Phase = 'live' | 'down' | 'crossing' | 'plain' | 'over';

/** The response under way: which command it answers, and whether its first line is all of it. */
export interface About {
  readonly flight: Flight | undefined;
  readonly isWhole: boolean;
}

/** See the file's law. */
export class TapState {
  readonly offered: readonly string[];
  readonly #prefix: string;
  state: Phase = 'live';
  readonly clientFramer: StreamFramer = new StreamFramer({
    maxLine: MAX_TRACKED_COMMAND_LINE,
    announces: commandAnnounces,
  });
  readonly farFramer: StreamFramer = new StreamFramer({
    maxLine: MAX_TRACKED_RESPONSE_LINE,
    announces: responseAnnounces,
  });
  readonly toClient: Out = new Out();
  readonly toFar: Out = new Out();
  capabilities: readonly string[];
  end: { why: string } | undefined;
  isCarried = false;
  /** The far side has said BYE. */
  isLeaving = false;
  /** Over there, in the order they were given. */
  flying: (Flight | Own)[] = [];
  /** Not begun over there. */
  waiting: Flight[] = [];
  /** The one the client is saying. */
  saying: Flight | undefined;
  route: Route = 'pass';
  open: Open | undefined;
  mailbox: Mailbox | undefined;
  /** What SELECT's answer has told so far. */
  coming: Mailbox | undefined;
  readonly enabled: Set<string> = new Set();
  isCondstore = false;
  readonly destinations: Map<string, Destination> = new Map();
  #count = 0;
  crossing: Crossing | undefined;
  asked: { tag: string; end?: { status: string; line: string } }[] = [];
  /** Answers to all that was asked: they may come in another order. */
  responses: Buffer[] = [];
  gathered = 0;
  parts: Buffer[] = [];
  /** Untagged responses that came in the middle of a response that is gone on with. */
  aside: Buffer[] = [];
  resumed: Resumed | undefined;
  fresh: Fresh | undefined;

  constructor(o: TapOptions) {
    this.offered = o.capabilities;
    this.capabilities = o.capabilities;
    this.#prefix = o.prefix;
  }

  /** The client's commands that are over there. */
  get flights(): Flight[] {
    return this.flying.filter(isFlight);
  }

  /** Whether a line of ours may be put behind what the client has been given. */
  get atLineEnd(): boolean {
    if (this.state === 'plain') return this.farFramer.atBoundary;
    return this.open === undefined && this.farFramer.whole;
  }

  /** Whether the far side has a capability now. */
  has(name: string): boolean {
    return this.capabilities.some((other) => equal(name, other));
  }

  /** A tag for a question of our own. */
  newTag(): string {
    this.#count++;
    return `${this.#prefix}${this.#count}`;
  }

  /** Forgets what belonged to the far session that is gone. */
  forgetFar(): void {
    this.farFramer.reset();
    this.route = 'pass';
    this.crossing = undefined;
    this.asked = [];
    this.aside = [];
    this.parts = [];
    this.resumed = undefined;
    this.coming = undefined;
  }

  /** Gives up what is to be done. */
  actions(): TapActions {
    const carried = this.isCarried;
    this.isCarried = false;
    return {
      toClient: this.toClient.take(),
      toFar: this.toFar.take(),
      ...(this.end === undefined ? {} : { end: this.end }),
      ...(carried ? { carried } : {}),
    };
  }
}

/** Whether two names of capabilities are one. */
export function equal(a: string, b: string): boolean {
  return a.toUpperCase() === b.toUpperCase();
}
