/** Why a session ended, in one sentence each. */
import { type ClientEvent, type Exit, printable, replyText } from '@postern/core';
import { DeliveryError } from './error.ts';

/** The server has said 421, or refused RSET. */
export function closedBy(event: ClientEvent & { type: 'closing' }): DeliveryError {
  const said = printable(replyText(event.reply), 200);
  return new DeliveryError(`the far side is closing the session: ${said}`, { code: 'closed', reply: event.reply });
}

/** Greeting, EHLO, STARTTLS or AUTH was refused. */
export function refusedBy(event: ClientEvent & { type: 'refused' }): DeliveryError {
  const code = event.at === 'auth' ? 'auth' : event.at === 'starttls' ? 'tls' : 'refused';
  const said = event.reply === undefined ? '' : `: ${printable(replyText(event.reply), 200)}`;
  return new DeliveryError(`${event.reason}${said}`, { code, reply: event.reply });
}

/** A reply that answers nothing that was asked. */
export function outOfStep(event: ClientEvent & { type: 'out-of-step' }): DeliveryError {
  const said = printable(replyText(event.reply), 120);
  const message = `the session is out of step: ${said} in answer to ${event.at}`;
  return new DeliveryError(message, { code: 'protocol', reply: event.reply });
}

/** What answers speaks something else; `said`: its first words. */
export function notSmtp(said: string): DeliveryError {
  return new DeliveryError(`what answers is no SMTP server: ${printable(JSON.stringify(said.slice(0, 200)), 200)}`, {
    code: 'protocol',
  });
}

/** The far side's output has ended without a goodbye. `greeted`: after its greeting. */
export function endedBy(exit: Exit | undefined, o: { greeted: boolean; stderr: string }): DeliveryError {
  const status = exit?.type === 'exit' ? `, exit status ${exit.code}` : exit?.type === 'signal' ? `, ${exit.name}` : '';
  const stderr = printable(o.stderr.trim(), 300);
  const message = o.greeted ? 'the far side closed the session' : 'the far side ended without a greeting';
  // Whatever its status: behind a receipt it is the wrapper's.
  const isCommand = exit?.type === 'signal' || exit?.type === 'exit';
  const code = !o.greeted && isCommand ? 'command' : 'closed';
  return new DeliveryError(`${message}${status}${stderr === '' ? '' : `: ${stderr}`}`, { code });
}
