/**
 * Receipts: the far side's own record of the replies it was given, and what it proves.
 *
 * The far command runs inside {@link receiptCommand}, which copies every reply into a file. When the link dies, the far session goes on with the
 * bytes sshd holds; the wrapper then ends it. Law:
 * 1. Every command has one reply, so a reply's place among all replies tells what it answers.
 * 2. What the wrapper writes after the near side's last byte never completes a message with anything but its own last octet (which is an LF): see
 *    {@link ClientOptions.separateLast}. It is `LF LF MAIL FROM:<> QUIT QUIT …`, and only in the `stream` dialogue.
 * 3. The replies to that are the last {@link TAIL} before the goodbye at most. There a refusal proves nothing, and an acceptance is one only
 *    when MAIL was accepted after it (it is not in the middle of a chunked message, where `BDAT 1` cut off from its ` LAST` is accepted too).
 * 4. Absence of a final reply proves that a message was not accepted only when the server said goodbye: what it had still to say before
 *    that would be there.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  createReplyParser,
  type ForwardPath,
  isGoodbye,
  type Outcome,
  quoteAll,
  type Reply,
  type ReplyEvent,
  verdicts,
} from '@postern/core';

/** Where receipts lie, in the far home; 0700. */
const DIRECTORY = '$HOME/.postern/receipts';
/** Replies that what the wrapper writes can bring about, the goodbye not counted. */
const TAIL = 4;
/** How much the wrapper writes to fill up a broken-off chunk, octets. */
const FILL_OCTETS = 4_194_304;
/** Receipts older than this are swept, days. */
const KEEP_DAYS = 14;
const ANNOUNCEMENT = 'postern: receipt';
const END = 'postern end';

/** A fresh name for a receipt: 96 random bits. */
export function newReceiptName(): string {
  return randomBytes(12).toString('hex');
}

/**
 * `command` for the far shell, with its replies kept as receipt `name`. The receipt is removed over there when the near side has sent QUIT and
 * stayed for the answer. Where no receipt can be kept the command runs as it is. One line, for any login shell.
 */
export function receiptCommand(command: string, o: { name: string; stream: boolean }): string {
  return quoteAll(['sh', '-c', WRAPPER, 'sh', o.name, command, o.stream ? 'stream' : 'plain']);
}

const WRAPPER: string = [
  'umask 077',
  `d="${DIRECTORY}"`,
  'r="$d/$1"',
  'if { mkdir -p "$d" && (: >"$r") && mkfifo "$r.in"; } 2>/dev/null; then :; else eval "$2"; exit; fi',
  `echo "${ANNOUNCEMENT} $1" >&2`,
  'trap "" HUP PIPE',
  'exec 3<&0',
  // At the end of input, either the near side has closed after the goodbye, or the link is gone.
  '{ cat <&3',
  'case "$(tail -n 1 "$r")" in 221*) exit;; esac',
  ': >"$r.eof"',
  'if [ "$3" = stream ] && grep -qi "^250[- ]chunking" "$r" && grep -qi "^250[- ]pipelining" "$r"',
  'then printf "\\n\\nMAIL FROM:<>\\r\\n"',
  `yes "$(printf "QUIT\\r")" | head -c ${FILL_OCTETS}`,
  'fi',
  '} >"$r.in" 2>/dev/null & f=$! ',
  'exec 3<&-',
  'eval "$2" <"$r.in" | tee -i "$r" 2>/dev/null',
  'kill $f 2>/dev/null',
  `if [ -e "$r.eof" ]; then printf "\\n${END} eof\\n" >>"$r"`,
  `else case "$(tail -n 1 "$r")" in 221*) rm -f "$r";; *) printf "\\n${END}\\n" >>"$r";; esac`,
  'fi',
  'rm -f "$r.in" "$r.eof"',
  `find "$d" -mtime +${KEEP_DAYS} "(" -type f -o -type p ")" -exec rm -f {} ";" 2>/dev/null`,
].join('; ');

/** True when the wrapper said on stderr that it keeps a receipt. */
export function isAnnounced(stderr: string): boolean {
  return stderr.includes(ANNOUNCEMENT);
}

/** stderr without the wrapper's own line. */
export function withoutAnnouncement(stderr: string): string {
  return stderr.replace(new RegExp(`^${ANNOUNCEMENT} .*\\n?`, 'gm'), '');
}

/** The command that prints receipt `name`, after waiting up to `seconds` for its session to end. Exits with 1 when there is none. */
export function fetchCommand(name: string, o: { seconds: number }): string {
  const script = [
    `r="${DIRECTORY}/$1"`,
    'i=0',
    `while [ -e "$r" ] && [ $i -lt "$2" ]; do case "$(tail -n 1 "$r")" in "${END}"*) break;; esac; sleep 1; i=$((i+1)); done`,
    'cat "$r" 2>/dev/null',
  ].join('; ');
  return quoteAll(['sh', '-c', script, 'sh', name, String(o.seconds)]);
}

/** The command that removes receipts. */
export function removeCommand(names: readonly string[]): string {
  return quoteAll(['sh', '-c', `cd "${DIRECTORY}" && rm -f -- "$@"`, 'sh', ...names]);
}

/** Where an attempt's replies are to be found: what `attempting` records. */
export interface ReceiptPlace {
  readonly name: string;
  /** Place of the reply to MAIL, and of the final one; the greeting's is 0. */
  readonly mail: number;
  readonly final: number;
  /** A short digest of each recipient of the transaction, in its order. */
  readonly recipients: readonly string[];
}

/** Writes a place as one word: `NAME:MAIL:FINAL:DIGESTS`. */
export function formatPlace(place: Omit<ReceiptPlace, 'recipients'>, recipients: readonly ForwardPath[]): string {
  return [place.name, place.mail, place.final, recipients.map(digest).join('')].join(':');
}

/** Reads {@link formatPlace}'s word; undefined when it is none. */
export function parsePlace(text: string): ReceiptPlace | undefined {
  const [, name, mail, final, digests] = /^([0-9a-f]{24}):(\d{1,9}):(\d{1,9}):((?:[\w-]{4})+)$/.exec(text) ?? [];
  if (name === undefined || digests === undefined) return undefined;
  return { name, mail: Number(mail), final: Number(final), recipients: digests.match(/.{4}/g) ?? [] };
}

function digest(path: ForwardPath): string {
  return createHash('sha256').update(path).digest('base64url').slice(0, 4);
}

/** What a receipt holds. */
export interface Receipt {
  /** The far session has ended. */
  readonly ended: boolean;
  /** The wrapper wrote after the near side. */
  readonly filled: boolean;
  readonly replies: readonly Reply[];
}

/** Reads a receipt's bytes; what is malformed ends it. */
export function parseReceipt(bytes: Uint8Array): Receipt {
  const text = Buffer.from(bytes).toString('latin1');
  const [, end] = new RegExp(`\\n(${END}(?: eof)?)\\n$`).exec(text) ?? [];
  const session = end === undefined ? text : text.slice(0, text.length - end.length - 2);
  const events = createReplyParser({ skipNoise: true }).push(Buffer.from(session, 'latin1'));
  const replies = events.flatMap((event: ReplyEvent) => (event.type === 'reply' ? [event.reply] : []));
  // The malformed line's own reply is missing, so what stands before it is still in its place.
  return { ended: end !== undefined, filled: end === undefined || end.endsWith('eof'), replies };
}

/** What a receipt says of one recipient. */
export type Finding =
  | { readonly type: 'known'; readonly outcome: Outcome }
  /** Proven not accepted. */
  | { readonly type: 'absent' }
  /** Not proven either way, and it will not be. */
  | { readonly type: 'unknown' }
  /** The far session has not ended. */
  | { readonly type: 'running' };

/** What the receipt proves of each of `recipients` of the transaction at `place`. `undefined` stands for a receipt that is not there. */
export function judge(
  receipt: Receipt | undefined,
  o: { place: ReceiptPlace; recipients: readonly ForwardPath[] },
): Finding[] {
  return o.recipients.map((to) => judgeOne(receipt, o.place, o.place.recipients.indexOf(digest(to))));
}

function judgeOne(receipt: Receipt | undefined, place: ReceiptPlace, at: number): Finding {
  if (receipt === undefined || at === -1) return { type: 'unknown' };
  const { replies, filled } = receipt;
  const goodbye = replies.findIndex(isGoodbye);
  const count = goodbye === -1 ? replies.length : goodbye;
  const lastIsAcceptance = (replies[count - 1]?.code ?? 0) < 300;
  const trusted = (index: number): boolean => !filled || index < count - TAIL;
  const final = place.final < count ? replies[place.final] : undefined;
  const firm = (index: number): Reply | undefined => (index < count && trusted(index) ? replies[index] : undefined);
  const genuine =
    final !== undefined && (trusted(place.final) || (final.code < 300 && lastIsAcceptance && goodbye !== -1));
  const mail = genuine ? replies[place.mail] : firm(place.mail);
  const rcpt = genuine ? replies[place.mail + 1 + at] : firm(place.mail + 1 + at);
  if (mail !== undefined && rcpt !== undefined) {
    const [verdict] = verdicts({
      ...{ mail, rcpt: [rcpt], data: undefined, left: true, perRecipient: false },
      finals: genuine && final !== undefined ? [final] : [],
    });
    const known = verdict !== undefined && verdict.type !== 'unsent' && verdict.type !== 'uncertain';
    if (known) return { type: 'known', outcome: verdict };
  }
  if (!receipt.ended) return { type: 'running' };
  return goodbye === -1 ? { type: 'unknown' } : { type: 'absent' };
}
