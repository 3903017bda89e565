/** Programs that answer nothing: one run takes one message whole or not at all, and its exit status is the outcome. */
import {
  type Channel,
  type Courier,
  type CourierReport,
  createBatchEncoder,
  createDotEncoder,
  type Entry,
  type Env,
  type Exit,
  type Link,
  type Outcome,
  printable,
  type Recipient,
  raceAbort,
  type Target,
} from '@postern/core';
import { encoded, wantsEncoding } from './encoded.ts';
import { DeliveryError } from './error.ts';
import { checkedCommand, submitCommand } from './protocol.ts';
import { lost, writePieces } from './write-message.ts';

/** What {@link createCommandCourier} needs. */
export interface CommandCourierOptions {
  readonly link: Link;
  readonly target: Target & { type: 'exec' };
  readonly protocol: 'bsmtp' | 'submit';
  readonly helo: string;
  readonly env: Pick<Env, 'monotonicNow'>;
}

/** Recipients of one command line. */
const MAX_ARGUMENTS = 100;
/** Exit statuses of sysexits.h that stay what they are: usage, bad message, no such user. All others may pass. */
const PERMANENT: readonly number[] = [64, 65, 67];

/**
 * A courier for programs that answer nothing: each message goes into one run of the command, behind a length check, and the exit status is all
 * there is to know. It says that the far mailer took the message, not that it took every recipient: that one bounces by mail.
 */
export function createCommandCourier(o: CommandCourierOptions): Courier {
  return async (batch, report) => {
    for await (const entry of batch) {
      report.signal.throwIfAborted();
      const { recipients } = entry.envelope;
      for (let at = 0; at < recipients.length; at += MAX_ARGUMENTS) {
        try {
          await deliver(o, { entry, report, recipients: recipients.slice(at, at + MAX_ARGUMENTS) });
        } catch (error) {
          // The entry's attempt was recorded with its first part: the parts that were not sent get their outcome too.
          const reason = printable(error instanceof Error ? error.message : String(error));
          const rest = at === 0 ? [] : recipients.slice(at + MAX_ARGUMENTS);
          for (const { to } of rest) await report.outcome(entry.id, to, { type: 'deferred', reason });
          throw error;
        }
      }
    }
  };
}

interface Delivery {
  readonly entry: Entry;
  readonly report: CourierReport;
  readonly recipients: readonly Recipient[];
}

async function deliver(o: CommandCourierOptions, d: Delivery): Promise<void> {
  const { report, recipients } = d;
  // What a program leads to is not known: 8-bit text stays.
  const entry = wantsEncoding(d.entry, undefined) ? await encoded(d.entry, undefined) : d.entry;
  const input =
    o.protocol === 'bsmtp'
      ? await batchInput(o.helo, entry, recipients)
      : { octets: entry.size, open: () => entry.open() };
  const to = recipients.map((recipient) => recipient.to);
  const plain = o.target.command;
  const command = o.protocol === 'bsmtp' ? plain : submitCommand(plain, { from: entry.envelope.from, to });
  const target: Target = { type: 'exec', command: checkedCommand(command, { octets: input.octets }) };
  const channel = await o.link.open(target, { signal: report.signal });
  channel.stream.on('error', () => {});
  channel.stream.resume();
  let left = false;
  let outcome: Outcome;
  try {
    await writePieces(channel, input.open(), report.signal, async () => {
      await report.attempting(entry.id, {});
      left = true;
    });
    channel.stream.end();
    const since = o.env.monotonicNow();
    report.waits?.(() => ({ for: 'exit', ms: o.env.monotonicNow() - since }));
    outcome = read(await raceAbort(channel.exit, report.signal), channel, plain);
  } catch (error) {
    channel.abort(error instanceof Error ? error : new DeliveryError('ended', { code: 'aborted', cause: error }));
    if (!left) throw error;
    outcome = { type: 'uncertain' };
  }
  for (const path of to) await report.outcome(entry.id, path, outcome);
  if (outcome.type === 'uncertain') throw lost(await channel.exit);
}

function read(exit: Exit, channel: Channel, command: string): Outcome {
  if (exit.type === 'exit' && exit.code === 0) {
    return { type: 'delivered', reply: { code: 250, lines: [`${command}: exit status 0`] } };
  }
  if (exit.type === 'lost' || exit.type === 'closed') return { type: 'uncertain' };
  const how = exit.type === 'exit' ? `exit status ${exit.code}` : `signal ${exit.name}`;
  const words = printable(channel.stderrTail().toString('utf8').trim(), 300);
  const reason = `${command}: ${how}${words === '' ? '' : `: ${words}`}`;
  const permanent = exit.type === 'exit' && PERMANENT.includes(exit.code);
  return { type: permanent ? 'failed' : 'deferred', reason };
}

/** One message as a batch, and how long it is. */
async function batchInput(
  helo: string,
  entry: Entry,
  recipients: readonly Recipient[],
): Promise<{ octets: number; open: () => AsyncIterable<Uint8Array> }> {
  const envelope = { ...entry.envelope, recipients };
  const encoder = createBatchEncoder({ helo });
  const head = Buffer.concat([encoder.hello(), encoder.envelope(envelope, { size: entry.size })]);
  const quit = encoder.end();
  async function* body(): AsyncGenerator<Uint8Array> {
    const dots = createDotEncoder();
    yield head;
    for await (const chunk of entry.open()) yield dots.push(chunk);
    yield dots.end();
    yield quit;
  }
  let octets = 0;
  for await (const piece of body()) octets += piece.length;
  return { octets, open: body };
}
