/**
 * Receipts: the far side's own record of the replies it was given, and what it proves.
 *
 * The far command runs inside {@link receiptCommand}, which copies every reply into a file, and counts what it was sent. When the link dies, the
 * far session goes on with the bytes sshd holds. Law:
 * 1. Every command has one reply, so a reply's place among all replies tells what it answers: a reply in the receipt proves its outcome.
 * 2. A message whose last octet lies beyond the octets counted never reached the server whole: it was not accepted.
 * 3. Neither was one without a reply in a session that the server ended with a goodbye: what it had to say before would be there.
 * 4. Nothing else is proven.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  createReplyParser,
  type ForwardPath,
  isGoodbye,
  type Outcome,
  quoteAll,
  type Reply,
  replyClass,
  verdicts,
} from '@postern/core';

/** Where receipts lie, in the far home; 0700. */
export const DIRECTORY = '$HOME/.postern/receipts';
/** Receipts older than this are swept, days. */
const KEEP_DAYS = 14;
/** An orphaned session from which nothing came for so long is ended, seconds. */
const QUIET_SECONDS = 30;
/** An orphaned session is ended after so long, quiet or not, seconds. */
export const ORPHAN_LIFE_SECONDS = 600;
/** Replies of one session are kept up to here, octets; past it the far session is ended, and its receipt proves nothing. */
export const MAX_RECEIPT_OCTETS = 4_194_304;
/** What `ulimit -f` counts in (POSIX), octets. */
const BLOCK_OCTETS = 512;
const ANNOUNCEMENT = 'postern: receipt';
const SENT = 'postern sent';
const END = 'postern end';

/** A fresh name for a receipt: 96 random bits. */
export function newReceiptName(): string {
  return randomBytes(12).toString('hex');
}

/**
 * `command` for the far shell, with its replies kept as receipt `name`. The receipt is removed over there when the near side has sent QUIT and
 * stayed for the answer. Where no receipt can be kept the command runs as it is. One line, for any login shell.
 */
export function receiptCommand(command: string, name: string): string {
  return quoteAll(['sh', '-c', WRAPPER, 'sh', name, command]);
}

/** Only where the group is the whole session, and led by this shell or the login shell that started it. */
const END_GROUP: string = [
  'g=$(ps -o pgid= -p $$ | tr -d " ")',
  'h=$(ps -o sid= -p $$ | tr -d " ")',
  'if [ "$g" = "$h" ] && { [ "$g" = $$ ] || [ "$g" = $PPID ]; }; then kill 0; fi',
].join('; ');
/**
 * `$r` holds the replies, `$r.n` the count of octets once input has ended, `$r.pid` what copies input. `tee` writes to `wc` first, so the count is
 * never too small. An orphan that is quiet, or old, ends its process group, which under sshd (which calls setsid) is its session alone; so does one
 * that says more than a receipt holds.
 */
const WRAPPER: string = [
  'umask 077',
  `d="${DIRECTORY}"`,
  'r="$d/$1"',
  'if { mkdir -p "$d" && (: >"$r") && mkfifo "$r.in"; } 2>/dev/null; then :; else eval "$2"; exit; fi',
  `echo "${ANNOUNCEMENT} $1" >&2`,
  'trap "" HUP PIPE',
  'trap : TERM',
  'exec 3<&0',
  '{ sh -c "echo \\$\\$ >\\"\\$1.pid\\"; exec tee -i \\"\\$1.in\\"" sh "$r" <&3 | wc -c >"$r.n"',
  // The near side closes after the goodbye; without one, its link is gone.
  'case "$(tail -n 1 "$r")" in 221*) exit;; esac',
  's=',
  'i=0',
  `while sleep ${QUIET_SECONDS}; do n=$(wc -c <"$r"); i=$((i+${QUIET_SECONDS}))`,
  `if [ "$n" = "$s" ] || [ $i -ge ${ORPHAN_LIFE_SECONDS} ]; then ${END_GROUP}; fi; s=$n; done`,
  '} >/dev/null 2>&1 & f=$! ',
  'exec 3<&-',
  // The limit ends `tee` with a signal; what else fails there (a full disk) leaves the session alone.
  `eval "$2" <"$r.in" | { (ulimit -c 0; ulimit -f ${MAX_RECEIPT_OCTETS / BLOCK_OCTETS}; exec tee -i "$r")`,
  `if [ $? -gt 128 ]; then ${END_GROUP}; fi; } 2>/dev/null`,
  'kill $f 2>/dev/null',
  `if [ "$(wc -c <"$r")" -ge ${MAX_RECEIPT_OCTETS} ]; then rm -f "$r.n"; : >"$r"; fi`,
  // QUIT is written when every outcome is durable on the near side.
  `case "$(tail -n 1 "$r")" in 221*) rm -f "$r";; *) printf "\\n" >>"$r"`,
  `if [ -s "$r.n" ]; then printf "${SENT} %s\\n" $(cat "$r.n") >>"$r"; fi`,
  `echo "${END}" >>"$r";; esac`,
  'rm -f "$r.in" "$r.n" "$r.pid"',
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

/**
 * The command that prints receipt `name` once its session has ended or fallen quiet, at most `seconds` later. A session that still
 * thinks its link is up has its input ended. Exits with 1 when there is no receipt.
 */
export function fetchCommand(name: string, o: { seconds: number }): string {
  return quoteAll(['sh', '-c', FETCH, 'sh', name, String(o.seconds * 2)]);
}

const FETCH: string = [
  `r="${DIRECTORY}/$1"`,
  'i=0',
  'q=0',
  's=',
  `while [ -p "$r.in" ] && [ $i -lt "$2" ] && [ $q -lt 3 ]; do case "$(tail -n 1 "$r")" in "${END}"*) break;; esac`,
  'n=$(wc -c <"$r")',
  'if [ "$n" = "$s" ]; then q=$((q+1)); else q=0; fi',
  's=$n',
  'if [ $q = 2 ] && [ -e "$r.pid" ] && [ ! -s "$r.n" ]; then kill "$(cat "$r.pid")" 2>/dev/null && q=0; fi',
  'sleep .5 2>/dev/null || sleep 1',
  'i=$((i+1))',
  'done',
  // The pipe goes last. A receipt without it and without its end ran out of room: no reply comes any more.
  'if [ -p "$r.in" ]; then g=; else g=1; fi',
  'cat "$r" 2>/dev/null || exit 1',
  `if [ -s "$r.n" ]; then printf "\\n${SENT} %s\\n" $(cat "$r.n"); fi`,
  `case "$g$(tail -n 1 "$r")" in "1${END}"*) ;; 1*) printf "\\n${END}\\n";; esac`,
].join('; ');

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
  /** Octets of the session up to and with the message's last one. */
  readonly end: number;
  /** A short digest of each recipient of the transaction, in its order. */
  readonly recipients: readonly string[];
}

/** Writes a place as one word: `NAME:MAIL:FINAL:END:DIGESTS`. */
export function formatPlace(place: Omit<ReceiptPlace, 'recipients'>, recipients: readonly ForwardPath[]): string {
  return [place.name, place.mail, place.final, place.end, recipients.map(digest).join('')].join(':');
}

/** Reads {@link formatPlace}'s word; undefined when it is none. */
export function parsePlace(text: string): ReceiptPlace | undefined {
  const [, name, mail, final, end, digests] =
    /^([0-9a-f]{24}):(\d{1,9}):(\d{1,9}):(\d{1,15}):((?:[\w-]{4})+)$/.exec(text) ?? [];
  if (name === undefined || digests === undefined) return undefined;
  const recipients = digests.match(/.{4}/g) ?? [];
  return { name, mail: Number(mail), final: Number(final), end: Number(end), recipients };
}

function digest(path: ForwardPath): string {
  return createHash('sha256').update(path).digest('base64url').slice(0, 4);
}

/** What a receipt holds. */
export interface Receipt {
  readonly replies: readonly Reply[];
  /** Octets the session was sent at most; undefined while more may come. */
  readonly sent: number | undefined;
  /** The far session has ended. */
  readonly ended: boolean;
}

const TRAILER: RegExp = new RegExp(`\\n(?:${SENT} +(\\d+)\\n)?(${END}\\n)?$`);

/** Reads what {@link fetchCommand} printed. What is malformed ends the replies: those before it are in their places. */
export function parseReceipt(bytes: Uint8Array): Receipt {
  const text = Buffer.from(bytes).toString('latin1');
  const [trailer = '', sent, end] = TRAILER.exec(text) ?? [];
  const session = text.slice(0, text.length - trailer.length);
  const events = createReplyParser({ skipNoise: true }).push(Buffer.from(`${session}\n`, 'latin1'));
  const replies = events.flatMap((event) => (event.type === 'reply' ? [event.reply] : []));
  return { replies, sent: sent === undefined ? undefined : Number(sent), ended: end !== undefined };
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
  const { replies, sent, ended } = receipt;
  const goodbye = replies.findIndex(isGoodbye);
  const said = goodbye === -1 ? replies : replies.slice(0, goodbye);
  const final = said[place.final];
  const [verdict] = verdicts({
    ...{ mail: said[place.mail], rcpt: [said[place.mail + 1 + at]], data: undefined, left: true, perRecipient: false },
    finals: final === undefined || replyClass(final) === 3 ? [] : [final],
  });
  if (verdict !== undefined && verdict.type !== 'unsent' && verdict.type !== 'uncertain') {
    return { type: 'known', outcome: verdict };
  }
  if (sent !== undefined && place.end > sent) return { type: 'absent' };
  if (goodbye !== -1) return { type: 'absent' };
  return { type: ended ? 'unknown' : 'running' };
}
