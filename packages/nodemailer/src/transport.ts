/** The face toward Nodemailer: a transport says nothing of its own, it hands messages to a delivery. */
import { createRequire } from 'node:module';
import type { Readable } from 'node:stream';
import { systemEnv } from '@postern/core';
import type { Transport } from 'nodemailer';
import { collect } from './body.ts';
import type { Delivery } from './delivery.ts';
import type { DsnOptions, MailEnvelope } from './envelope.ts';
import type { SshSentMessageInfo, SshTransportOptions } from './options.ts';
import { SpoolDelivery } from './spool-delivery.ts';
import { SshDelivery } from './ssh-delivery.ts';

const { version } = createRequire(import.meta.url)('../package.json') as { version: string };

/** A Nodemailer transport plugin. */
export interface SshTransport extends Transport<SshSentMessageInfo> {
  /**
   * Opens a session as far as the server's EHLO, and ends it. Rejects with `LinkError`, `DeliveryError` or
   * {@link TransportError}; with a callback, that is told instead.
   */
  verify(): Promise<true>;
  verify(callback: (error: Error | null, success?: true) => void): void;
  /** Refuses what waits, ends the session, and the link when it is this transport's own. */
  close(): Promise<void>;
  isIdle(): boolean;
}

/** The part of Nodemailer's message that a transport reads. */
interface Mail {
  readonly data: { readonly dsn?: unknown; readonly signal?: AbortSignal | undefined };
  readonly message: {
    getEnvelope(): MailEnvelope;
    messageId(): string;
    createReadStream(): Readable;
  };
}

/**
 * A transport for `nodemailer.createTransport`: mail goes through an SSH link to what speaks SMTP on the far side, with
 * a verdict for every recipient. Messages sent at the same time share one session. Does no I/O before the first
 * message.
 */
export function sshTransport(o: SshTransportOptions): SshTransport {
  const delivery = o.queue === undefined ? new SshDelivery(o) : new SpoolDelivery(o.queue, o.env ?? systemEnv);
  return {
    name: 'postern',
    version,
    supportsAbortSignal: true,
    send(mail, callback) {
      send(delivery, mail as unknown as Mail).then(
        (info) => callback(null, info),
        (error) => callback(error, undefined as never),
      );
    },
    verify: verifier(delivery),
    close: () => delivery.close(),
    isIdle: () => delivery.idle,
  };
}

/** With and without a callback, as Nodemailer's own transports have it. */
function verifier(delivery: Delivery): SshTransport['verify'] {
  function verify(): Promise<true>;
  function verify(callback: (error: Error | null, success?: true) => void): void;
  function verify(callback?: (error: Error | null, success?: true) => void): Promise<true> | undefined {
    const verified = delivery.verify().then((): true => true);
    if (callback === undefined) return verified;
    verified.then((success) => callback(null, success), callback);
    return undefined;
  }
  return verify;
}

async function send(delivery: Delivery, mail: Mail): Promise<SshSentMessageInfo> {
  const envelope = mail.message.getEnvelope();
  const { dsn, signal } = mail.data;
  const body = await collect(mail.message.createReadStream(), signal);
  const result = await delivery.send(envelope, body, { dsn: dsn as DsnOptions | undefined, signal });
  return { ...result, envelope: { from: envelope.from, to: [...envelope.to] }, messageId: mail.message.messageId() };
}
