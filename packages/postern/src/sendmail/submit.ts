/** Hands a message to the spool, or to the daemon's. */
import {
  createMessageChecker,
  type EntryId,
  type Env,
  type Envelope,
  type FitPlan,
  type ForwardPath,
  fitted,
  newEntryId,
  printable,
  type SpoolWriter,
  surveyMessage,
} from '@postern/core';
import { buildDsn } from '@postern/relay';
import { PosternError } from '../base/errors.ts';
import type { SubmitRequest } from './args.ts';
import { compose, type Identity, type RefusedRecipient } from './compose.ts';
import { type Head, headReader } from './header.ts';
import { Stash } from './stash.ts';
import { type TextReader, textReader } from './text.ts';

/** What {@link submit} needs. */
export interface SubmitOptions {
  readonly request: SubmitRequest;
  readonly input: AsyncIterable<Uint8Array>;
  readonly spool: SpoolWriter;
  readonly identity: Identity;
  readonly env: Env;
  /** Why a recipient cannot be taken, or undefined: asked before anything is spooled. */
  readonly refusal?: (from: string, to: string) => string | undefined;
}

/** What became of a message. */
export interface Submitted {
  readonly id: EntryId;
  /** Recipients of the header that were left out; a DSN tells the sender too. */
  readonly refused: readonly RefusedRecipient[];
}

/**
 * Takes a message from `input` into the spool; resolves when it is durable. All recipients of the command line are taken or none; one of the header that cannot be
 * used is left out, and the sender gets a DSN about it. Throws
 * {@link PosternError} `data` for an address that cannot be used or a header beyond its bound, `io` when the input breaks, `no-host` for a recipient that no
 * route takes; what the spool throws passes through.
 */
export async function submit(o: SubmitOptions): Promise<Submitted> {
  const text = crlfText(o.input, textReader({ dotEnds: !o.request.dotIsText }));
  const head = await readHead(text);
  const id = newEntryId(o.env);
  const { envelope, header, refused } = compose(o.request, head.fields, { ...o.identity, id, now: o.env.wallNow() });
  for (const { to } of envelope.recipients) {
    const why = o.refusal?.(envelope.from, to);
    if (why !== undefined) throw new PosternError('no-host', `${to}: ${why}; nothing was sent`);
  }
  await using stash = new Stash();
  const plan = await survey(stash, [header, head.body], text);
  // The spool itself sees whether there is an octet above 127.
  await o.spool.accept({ ...envelope, body: '7BIT' }, checked(fitted(stash.read(), plan)), { id });
  if (refused.length > 0 && envelope.from !== '') await tell(o, { id, envelope, header, refused });
  return { id, refused };
}

/** Reads the message to its end and finds what has to be encoded. */
async function survey(stash: Stash, head: readonly Buffer[], rest: AsyncIterable<Buffer>): Promise<FitPlan> {
  const looking = surveyMessage();
  const see = async (chunk: Buffer): Promise<void> => {
    looking.push(chunk);
    await stash.write(chunk);
  };
  for (const chunk of head) await see(chunk);
  for await (const chunk of rest) await see(chunk);
  return looking.finish();
}

/** Nothing that could smuggle a second message leaves, whatever the plan says. A line may be long where it is signed. */
async function* checked(message: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const checker = createMessageChecker({ longLines: true });
  for await (const chunk of message) {
    if (checker.push(chunk) !== undefined)
      throw new PosternError('software', 'the message was not made fit; nothing was sent');
    yield chunk;
  }
}

/** A DSN to the sender about recipients that were never tried (RFC 3464). */
async function tell(
  o: SubmitOptions,
  about: { id: EntryId; envelope: Omit<Envelope, 'body'>; header: Buffer; refused: readonly RefusedRecipient[] },
): Promise<void> {
  const { id, header, refused } = about;
  const now = o.env.wallNow();
  const dsn = buildDsn({
    kind: 'failed',
    id: newEntryId(o.env),
    hostname: o.identity.domain,
    at: now,
    about: {
      id,
      envelope: { ...about.envelope, body: '7BIT', ret: 'HDRS' },
      size: header.length,
      arrived: now,
      async *open() {
        yield header;
      },
    },
    recipients: refused.map(({ text, why }) => ({
      // Not a path: what was written is all there is to name it by.
      recipient: { to: printable(text) as ForwardPath },
      outcome: { type: 'failed', reason: why },
    })),
  });
  await o.spool.accept(dsn.envelope, dsn.message());
}

async function* crlfText(input: AsyncIterable<Uint8Array>, reader: TextReader): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of input) {
      yield reader.push(chunk);
      if (reader.ended) return;
    }
  } catch (error) {
    if (error instanceof PosternError) throw error;
    throw new PosternError('io', `the message cannot be read: ${(error as Error).message}`, { cause: error });
  }
  yield reader.finish();
}

async function readHead(text: AsyncGenerator<Buffer>): Promise<Head> {
  const reader = headReader();
  // Not `for await`: leaving that would end the text.
  for (let read = await text.next(); read.done !== true; read = await text.next()) {
    const head = reader.push(read.value);
    if (head !== undefined) return head;
  }
  return reader.finish();
}
