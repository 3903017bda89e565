/** The public face of core: the words of the trade, what capabilities hand each other, and the codecs. What only core uses is not here. */
export type { Admission, Admit } from './admit.ts';
export type { Brand } from './brand.ts';
export { type Channel, type Exit, STDERR_TAIL_BYTES, type Target } from './channel.ts';
export { defined } from './defined.ts';
export type { Direct, DirectStart, DirectTransaction } from './direct.ts';
export {
  type Courier,
  type CourierReport,
  type Entry,
  type EntryId,
  entryTime,
  isEntryId,
  newEntryId,
  type Unresolved,
  type Wait,
  type WaitingFor,
} from './entry.ts';
export {
  type Deadline,
  type Deferred,
  deadline,
  deferred,
  type Env,
  raceAbort,
  seededRandom,
  sleep,
  systemEnv,
} from './env.ts';
export type { Envelope, ForwardPath, Notify, Recipient, ReversePath } from './envelope.ts';
export { type FarRun, LAST_WORDS_MS, type LastWords, lastLines, lastWords, runFar } from './far.ts';
export type { Command } from './imap/command.ts';
export type { Frame } from './imap/framer.ts';
export { type GateAction, type Login, LoginGate, type ResponseCode, responseText } from './imap/gate.ts';
export {
  type CapabilityAnswer,
  CapabilityReader,
  type Greeting,
  GreetingReader,
  loggedInCapabilities,
  type StatusResponse,
} from './imap/response.ts';
export { responseAnnounces, StreamFramer } from './imap/tap/framing.ts';
export { withoutCompress } from './imap/tap/hearing.ts';
export { MAX_TRACKED_RESPONSE_LINE, MAX_WAITING } from './imap/tap/limits.ts';
export { Tap, type TapActions, type TapOptions } from './imap/tap/tap.ts';
export { Ledger, untouched } from './ledger.ts';
export type { Link, LinkState, WakeReason } from './link.ts';
export { isLinkDown, isPermanent, type Layer, LinkError, type LinkErrorCode } from './link-error.ts';
export { type Encoder, encoderOf } from './mime/encoders.ts';
export {
  type FitOptions,
  type FitPlan,
  fitted,
  isFit,
  type Survey,
  surveyMessage,
} from './mime/fit.ts';
export { type Outcome, outcomeOf, type Reply, replyClass, replyText } from './outcome.ts';
export { escapeJson, printable, printableJson, quote, quoteAll } from './quote.ts';
export {
  type BatchDecoder,
  type BatchEncoder,
  type BatchEvent,
  createBatchDecoder,
  createBatchEncoder,
} from './smtp/bsmtp.ts';
export {
  createMessageChecker,
  describeFault,
  MAX_TEXT_LINE_OCTETS,
  type MessageChecker,
  type MessageFacts,
  type MessageFault,
} from './smtp/check.ts';
export { type ClientMachine, createClient } from './smtp/client.ts';
export { mayAnswer } from './smtp/client-replies.ts';
export {
  type AwaitedCommand,
  type ClientEvent,
  type ClientOptions,
  type ClientStep,
  type Credentials,
  type Dialogue,
  STREAM_WINDOW,
} from './smtp/client-state.ts';
export { formatMail, formatRcpt, unsendable } from './smtp/command.ts';
export { createDotDecoder, createDotEncoder, type DotDecoder, type DotEncoder } from './smtp/dot.ts';
export { type Extensions, type Limits, NO_EXTENSIONS, parseEhlo } from './smtp/extensions.ts';
export { createLineEnds, type LineEnds } from './smtp/line-ends.ts';
export { domainOf, localPartOf, needsSmtputf8, parseDomain, parseForwardPath, parseReversePath } from './smtp/path.ts';
export { createRcptFilter, type RcptFilter, type RcptFilterStep } from './smtp/rcpt-filter.ts';
export { createReplyParser, formatReply, type ReplyEvent, type ReplyParser } from './smtp/reply.ts';
export { isGoodbye, type SessionEnd, type TransactionReplies, type Verdict, verdicts } from './smtp/verdict.ts';
export { decodeXtext, encodeXtext } from './smtp/xtext.ts';
export {
  type AcceptOptions,
  type EntryState,
  type JournalRecord,
  type Notice,
  type RecipientState,
  type Spool,
  SpoolError,
  type SpoolErrorCode,
  type SpoolWriter,
} from './spool.ts';
export { formatTarget, parseTarget } from './target.ts';
