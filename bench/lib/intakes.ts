import { GateError } from '@postern/gate';
import { startOpensmtpd, startPostfix, startRig } from '@postern/testkit/rig';
import { startFarMail } from './far-mail.ts';

/** An SMTP server that keeps what it takes. */
export interface Intake {
  readonly who: string;
  readonly port: number;
  /** Whether a whole load would take it minutes with a connection each. */
  slow?(sessions: number): boolean;
  /** Empties its queue, where that has to be done. */
  clear?(): Promise<void>;
}

type Rival = Intake & AsyncDisposable;

/** Postfix 3.7: one fsync before its 250, of the file in its place. */
export async function postfixIntake(): Promise<Rival> {
  const gate = await startRig({ imapd: false, smtp: false });
  const settings = { smtpd_client_restrictions: 'check_client_access static:HOLD' };
  const { port } = await startPostfix(gate, { settings });
  return { who: 'postfix', port, [Symbol.asyncDispose]: () => gate.stop() };
}

/** Exim 4.96: three, of body, envelope and directory. */
export async function eximIntake(): Promise<Rival> {
  const { gate, server, clear } = await startFarMail('exim');
  return {
    who: 'exim',
    port: server.port,
    // 4.96 holds its answer to QUIT back for 200 ms.
    slow: () => true,
    clear,
    [Symbol.asyncDispose]: () => gate.stop(),
  };
}

/** OpenSMTPD 6.8.0p2: none as it comes, every write when made to. Nothing, and a line that says why, where it cannot be had. */
export async function opensmtpdIntake(synchronous: boolean): Promise<Rival | undefined> {
  const who = synchronous ? 'opensmtpd, made to sync' : 'opensmtpd, no sync';
  const gate = await startRig({ imapd: false, smtp: false });
  try {
    const { port } = await startOpensmtpd(gate, { synchronous });
    return {
      who,
      port,
      // 6.8.0p2 listens with a backlog of 5: of 20 connections at once some are asked for again only after a second or three.
      slow: (sessions) => sessions > 5,
      [Symbol.asyncDispose]: () => gate.stop(),
    };
  } catch (error) {
    await gate.stop();
    if (!(error instanceof GateError)) throw error;
    console.log(`without ${who}: ${error.message}`);
    return undefined;
  }
}
