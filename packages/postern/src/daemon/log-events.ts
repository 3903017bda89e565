/** What packages report, as log lines; bytes from afar are escaped, secrets are not among them. */
import { printable, replyClass, replyText } from '@postern/core';
import type { ImapEvent } from '@postern/imap';
import type { RelayEvent } from '@postern/relay';
import type { CourierEvent } from '@postern/smtp';
import type { SpoolEvent } from '@postern/spool';
import type { ForwardEvent, LinkEvent } from '@postern/ssh';
import type { TlsEvent } from '../tls/identity.ts';
import type { Logger } from './log.ts';

/** Link news as log lines: what a person wants to know at info, each channel at debug. */
export function logLinkEvent(log: Logger, event: LinkEvent): void {
  const { host } = event;
  switch (event.type) {
    case 'dialling':
      return void log.debug({ host, attempt: event.attempt }, `${host}: dialling`);
    case 'passed':
      return void log.debug({ host, step: event.step }, `${host}: ${event.step} passed`);
    case 'up':
      return void log.info(
        { host, ms: Math.round(event.ms), connections: event.connections },
        `${host}: link up after ${Math.round(event.ms)} ms${event.connections > 1 ? ` (${event.connections} connections)` : ''}`,
      );
    case 'down': {
      const { error, retryAt } = event;
      const again =
        retryAt === undefined ? 'no redial until something changes' : `redial ${new Date(retryAt).toISOString()}`;
      const fix = error.fix === undefined ? '' : `; fix: ${printable(error.fix)}`;
      const about = { host, code: error.code, layer: error.layer, ...(retryAt === undefined ? {} : { retryAt }) };
      return void log.warn(about, `${host}: link down: ${printable(error.message)}; ${again}${fix}`);
    }
    case 'connection-ended':
      return void log.info(
        { host, connections: event.connections },
        `${host}: one connection ended: ${printable(event.error.message)}`,
      );
    case 'probing':
      return void log.debug({ host }, `${host}: asking whether the far side lives: ${printable(event.why)}`);
    case 'banner':
      return void log.info({ host }, `${host}: server says: ${printable(event.text.trim())}`);
    case 'notice':
      return void log.info({ host }, `${host}: ${printable(event.text)}`);
    case 'channel-open':
      return void log.debug({ host, target: event.target, ms: event.ms }, `${host}: channel open`);
    case 'channel-close':
      return void log.debug({ host, exit: event.exit.type }, `${host}: channel closed`);
  }
}

/** IMAP news as log lines, naming peer and host. */
export function logImapEvent(log: Logger, event: ImapEvent): void {
  switch (event.type) {
    case 'refused':
      return void log.warn(
        { service: 'imap', peer: event.peer },
        `imap: ${event.peer} refused: ${printable(event.reason)}`,
      );
    case 'login': {
      const { peer, who, user, host, spare, ms } = event;
      const about = { service: 'imap', peer, who, user: printable(user, 80), host, spare, ms: Math.round(ms) };
      return void log.info(
        about,
        `imap: ${peer} logged in to ${host} (${who}, ${spare ? 'spare' : 'new session'}, ${Math.round(ms)} ms)`,
      );
    }
    case 'login-failed':
      return void log.warn(
        { service: 'imap', peer: event.peer, user: printable(event.user, 80) },
        `imap: ${event.peer} not logged in: ${printable(event.reason)}`,
      );
    case 'ended':
      return void log.info(
        { service: 'imap', peer: event.peer, host: event.host },
        `imap: ${event.peer} ended (${event.why})`,
      );
    case 'carried': {
      const { host, sessions, ms } = event;
      const what = sessions === 1 ? '1 session' : `${sessions} sessions`;
      return void log.info(
        { service: 'imap', host, sessions, ms: Math.round(ms) },
        `${host}: carried over ${what} in ${(ms / 1000).toFixed(1)} s`,
      );
    }
    case 'imapd-found':
      return void log.info({ host: event.host }, `${event.host}: imapd is \`${event.command}\``);
    case 'noise':
      return void log.info(
        { host: event.host },
        `${event.host}: lines before the greeting: ${printable(event.lines.join(' / '))}`,
      );
    case 'spare': {
      const why = event.reason === undefined ? '' : `: ${printable(event.reason)}`;
      const text = `${event.host}: spare session ${event.what}${why}`;
      return void (event.what === 'failed'
        ? log.warn({ host: event.host }, text)
        : log.debug({ host: event.host }, text));
    }
  }
}

/** Spool news as log lines; what needs a person is an error. */
export function logSpoolEvent(log: Logger, event: SpoolEvent): void {
  switch (event.type) {
    case 'opened': {
      const text = `spool: ${event.entries} entries, read in ${Math.round(event.milliseconds)} ms`;
      return void log[event.entries === 0 ? 'debug' : 'info']({ entries: event.entries }, text);
    }
    case 'taken-over':
      return void log.info({ pid: event.pid }, `spool: taken over from process ${event.pid}, which has died`);
    case 'swept':
      return void log.info(`spool: removed a half-written ${event.name} that was never acknowledged`);
    case 'corrupt':
      return void log.error(
        { id: event.id, path: event.path },
        `spool: ALERT: ${event.id} is damaged (${event.reason}); kept as ${event.path}`,
      );
    case 'damaged-journal':
      return void log.error(
        { id: event.id },
        `spool: ALERT: the journal of ${event.id} is damaged in line ${event.line}; the entry is held`,
      );
    case 'newer':
      return void log.warn({ id: event.id }, `spool: ${event.id} was written by a later version; left alone`);
    case 'fault':
      return void log.error(`spool: ALERT: ${event.error.message}; nothing is taken until Postern is started again`);
    case 'low-space':
      return void log.error(
        { free: event.free, wanted: event.wanted },
        `spool: ALERT: ${event.free} octets free of ${event.wanted} wanted; new mail is refused for now`,
      );
  }
}

/** Relay news as log lines: one per message taken, one per outcome, in the shape Postfix made known. */
export function logRelayEvent(log: Logger, event: RelayEvent): void {
  switch (event.type) {
    case 'connection-refused':
      return void log.warn(
        { service: 'smtp', peer: event.peer },
        `smtp: ${event.peer} refused: ${printable(event.reason)}`,
      );
    case 'auth-failed':
      return void log.warn(
        { service: 'smtp', session: event.session, peer: event.peer },
        `smtp: session ${event.session}: ${event.peer}: wrong local password`,
      );
    case 'accepted': {
      const { id, session, peer, who, from, recipients, size } = event;
      const about = { service: 'smtp', id, session, peer, who, from, recipients, size };
      return void log.info(
        about,
        `${id}: from=<${printable(from)}>, size=${size}, nrcpt=${recipients}, client=${peer} (${who}), session=${session}`,
      );
    }
    case 'passed': {
      const { id, session, peer, who, from, to, host, size, reply } = event;
      const status = replyClass(reply) === 2 ? 'sent' : 'refused';
      const about = { service: 'smtp', id, session, peer, who, from, to, host, size, status };
      const names = printable(to.map((each) => `<${each}>`).join(','));
      const line = `${id}: from=<${printable(from)}>, to=${names}, size=${size}, relay=${host}, client=${peer} (${who}), session=${session}, status=${status} (straight through: ${printable(replyText(reply))})`;
      return void log[status === 'sent' ? 'info' : 'warn'](about, line);
    }
    case 'rejected': {
      const { session, peer, code, text, path } = event;
      const named = path === undefined ? '' : ` <${printable(path)}>:`;
      return void log.info(
        { service: 'smtp', session, peer, code, ...(path === undefined ? {} : { path }) },
        `smtp: session ${session}: ${peer}:${named} ${code} ${printable(text)}`,
      );
    }
    case 'outcome': {
      const { id, to, relay, delayMs, dsn, status, text } = event;
      const line = `${id}: to=<${printable(to)}>, relay=${printable(relay)}, delay=${(delayMs / 1000).toFixed(2)}, dsn=${dsn}, status=${status} (${printable(text)})`;
      const about = { id, from: event.from, to, host: relay, delayMs: Math.round(delayMs), dsn, status };
      return void (status === 'sent' ? log.info(about, line) : log.warn(about, line));
    }
    case 'completed':
      return void log.debug({ id: event.id }, `${event.id}: removed`);
    case 'held':
      return void log.warn({ id: event.id }, `${event.id}: held: ${printable(event.reason)}`);
    case 'notified': {
      const where = event.kept ? 'kept in the local bounces' : `queued as ${event.dsn}`;
      return void log.info({ id: event.id, dsn: event.dsn }, `${event.id}: sender ${event.kind} notification ${where}`);
    }
    case 'no-route':
      return void log.warn(
        { id: event.id },
        `${event.id}: no route takes ${printable(event.to.join(', '))}; it waits for one`,
      );
    case 'host-deferred': {
      const when = event.waitMs === undefined ? 'until its link is up' : `for ${Math.round(event.waitMs / 1000)} s`;
      return void log.warn({ host: event.host }, `${event.host}: mail waits ${when}: ${printable(event.reason)}`);
    }
    case 'error': {
      const what = event.error instanceof Error ? event.error.message : String(event.error);
      return void log.error({ ...(event.id === undefined ? {} : { id: event.id }) }, `relay: ${printable(what)}`);
    }
  }
}

/** SMTP sessions toward a host, at debug but for what a person should see. */
export function logCourierEvent(log: Logger, host: string, event: CourierEvent): void {
  switch (event.type) {
    case 'open':
      return void log.debug({ host, session: event.session }, `${host}: SMTP session ${event.session} open`);
    case 'ready':
      return void log.debug(
        { host, session: event.session },
        `${host}: SMTP session ${event.session}: ${event.dialogue}`,
      );
    case 'closing':
      return void log.info(
        { host, session: event.session },
        `${host}: SMTP server closes: ${printable(replyText(event.reply))}`,
      );
    case 'closed':
      return void log.debug(
        { host, session: event.session, settled: event.settled },
        `${host}: SMTP session ${event.session} ended, ${event.settled} outcomes`,
      );
    case 'unreadable':
      return void log.error({ host, id: event.id }, `${event.id}: ${printable(event.error.message)}`);
    default:
      return;
  }
}

/** News of the listeners' certificates. */
export function logTlsEvent(log: Logger, event: TlsEvent): void {
  const { file } = event;
  if (event.type === 'renewed') {
    const { fingerprint } = event;
    return void log.info({ certificate: file, fingerprint }, `tls: ${file} is new, SHA-256 ${fingerprint}`);
  }
  log.error({ certificate: file }, `tls: ${file} has changed and the old one stays in use: ${printable(event.reason)}`);
}

/** News of forwards as log lines. */
export function logForwardEvent(log: Logger, event: ForwardEvent): void {
  const { host } = event;
  const because = (message: string, fix: string | undefined): string =>
    `${printable(message)}${fix === undefined ? '' : `; fix: ${printable(fix)}`}`;
  switch (event.type) {
    case 'forward-denied':
      return void log.warn({ host }, `${host}: forward: a peer was turned away: ${printable(event.reason)}`);
    case 'forward-open':
    case 'forward-close':
      return void log.debug({ host }, `${host}: ${event.type}`);
    case 'forward-refused':
      return void log.warn(
        { host, code: event.error.code },
        `${host}: forward: ${because(event.error.message, event.fix)}`,
      );
    case 'reverse-listening':
      return void log.info({ host, listen: event.listen }, `${host}: reverse: the far side listens on ${event.listen}`);
    case 'reverse-refused':
      return void log.warn(
        { host, listen: event.listen },
        `${host}: reverse: ${because(event.error.message, event.fix)}`,
      );
    case 'reverse-lost':
      return void log.info(
        { host, listen: event.listen },
        `${host}: reverse: the far side listens no more on ${event.listen}`,
      );
    case 'reverse-open':
    case 'reverse-close':
      return void log.debug({ host, to: event.to }, `${host}: ${event.type} ${event.to}`);
    case 'reverse-unreachable':
      return void log.warn(
        { host, to: event.to },
        `${host}: reverse: ${event.to} does not answer: ${printable(event.message)}`,
      );
    case 'reverse-recipient-refused':
      return void log.info({ host }, `${host}: reverse: no mail for ${printable(event.address)}`);
  }
}
