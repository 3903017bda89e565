/** Nodemailer's envelope as ours: an address that cannot travel is refused before anything is sent. */
import {
  type Envelope,
  type ForwardPath,
  type MessageFacts,
  type Notify,
  needsSmtputf8,
  parseForwardPath,
  parseReversePath,
  type Recipient,
} from '@postern/core';
import { TransportError } from './errors.ts';

/** Nodemailer's `dsn` message option (RFC 3461): `id`, `return`, `notify`, `recipient`, and their other names. */
export interface DsnOptions {
  readonly [key: string]: unknown;
}

/** What Nodemailer says of a message. */
export interface MailEnvelope {
  readonly from: string | false;
  readonly to: readonly string[];
}

/** Checks and translates Nodemailer's envelope. Throws {@link TransportError} `envelope`. */
export function toEnvelope(mail: MailEnvelope, o: { facts: MessageFacts; dsn?: DsnOptions | undefined }): Envelope {
  if (mail.to.length === 0) throw new TransportError('no recipients', { code: 'envelope' });
  try {
    const dsn = readDsn(o.dsn ?? {});
    const from = parseReversePath(mail.from === false ? '' : mail.from);
    const recipients = unique(mail.to.map(parseForwardPath)).map((to): Recipient => ({ to, ...dsn.recipient }));
    const smtputf8 = o.facts.eightBitHeader || needsSmtputf8(from) || recipients.some(({ to }) => needsSmtputf8(to));
    return { from, recipients, body: o.facts.eightBit ? '8BITMIME' : '7BIT', smtputf8, ...dsn.message };
  } catch (error) {
    if (error instanceof TransportError) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new TransportError(why, { code: 'envelope', cause: error });
  }
}

function unique(paths: readonly ForwardPath[]): ForwardPath[] {
  return [...new Set(paths)];
}

const RETURNS: Readonly<Record<string, 'FULL' | 'HDRS'>> = {
  FULL: 'FULL',
  BODY: 'FULL',
  HDRS: 'HDRS',
  HEADERS: 'HDRS',
};
const NOTIFIES: readonly string[] = ['NEVER', 'SUCCESS', 'FAILURE', 'DELAY'];

function readDsn(dsn: DsnOptions): {
  message: Pick<Envelope, 'ret' | 'envid'>;
  recipient: Pick<Recipient, 'notify' | 'orcpt'>;
} {
  const ret = text(dsn.return ?? dsn.ret).toUpperCase();
  if (ret !== '' && !Object.hasOwn(RETURNS, ret)) throw wrong('return', ret, 'full or headers');
  const given = dsn.notify ?? [];
  const notify = (Array.isArray(given) ? given : text(given).split(',')).map((word) => text(word).trim().toUpperCase());
  const bad = notify.find((word) => !NOTIFIES.includes(word));
  if (bad !== undefined) throw wrong('notify', bad, 'never, or any of success, failure, delay');
  if (notify.includes('NEVER') && notify.length > 1) throw wrong('notify', notify.join(), 'never alone');
  const envid = text(dsn.envid ?? dsn.id);
  const orcpt = text(dsn.orcpt ?? dsn.recipient);
  return {
    message: { ...(ret === '' ? {} : { ret: RETURNS[ret] as 'FULL' | 'HDRS' }), ...(envid === '' ? {} : { envid }) },
    recipient: {
      ...(notify.length === 0 ? {} : { notify: notify as Notify[] }),
      ...(orcpt === '' ? {} : { orcpt: orcpt.includes(';') ? orcpt : `rfc822;${orcpt}` }),
    },
  };
}

function text(value: unknown): string {
  return value === undefined || value === null ? '' : String(value);
}

function wrong(key: string, value: string, accepted: string): TransportError {
  return new TransportError(`dsn.${key} is ${JSON.stringify(value)}; it takes ${accepted}`, { code: 'envelope' });
}
