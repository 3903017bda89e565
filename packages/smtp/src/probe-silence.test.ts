/** A far side that falls silent behind a message is asked once whether anybody reads; a dead server behind a netcat shows by that. */
import { type AddressInfo, createServer, type Server } from 'node:net';
import { type Env, systemEnv, type Target } from '@postern/core';
import { settle } from '@postern/testkit';
import { startRig } from '@postern/testkit/rig';
import { describe, expect, test } from 'vitest';
import { deliver, makeEntry, makeReport, toBatch } from './courier.test-util.ts';
import { createCourier } from './courier.ts';
import type { OnCourierEvent } from './event.ts';
import { processLink } from './real.test-util.ts';
import { PROBE_MS, REPLY_TIMEOUT_MS } from './session-options.ts';

const OPENING = (extensions: string): string => `
  S:220 gate.test
  C:EHLO home.test
  S:250-gate.test
  S:250 ${extensions}`;
const MAIL = 'C:MAIL FROM:<ann@home.test>';
const RCPT = 'C:RCPT TO:<joe@gate.test>';
const BODY = `
  C:Subject: x
  C:
  C:hello
  C:.`;
const PIPELINED = `${OPENING('PIPELINING')}
  ${MAIL}
  ${RCPT}
  C:DATA
  S:250 ok
  S:250 ok
  S:354 go${BODY}`;
const entries = [makeEntry({ id: 'a' })];

describe('silence behind a message', () => {
  test('is answered by a NOOP that has no line end before a reply has come', async () => {
    const run = deliver([PIPELINED], { entries });
    await run.reached();
    const far = run.pairs[0]?.far;
    let said = '';
    far?.on('data', (chunk: Buffer) => {
      said += chunk.toString('latin1');
    });
    await run.env.advance(PROBE_MS * 3);
    expect(said).toBe('NOOP');
    far?.write('250 taken\r\n');
    await settle();
    expect(said).toBe('NOOP\r\n');
    far?.write('250 nothing done\r\n');
    await settle();
    expect(said).toBe('NOOP\r\nQUIT\r\n');
    expect(await run.done).toBeUndefined();
    expect(run.lines).toEqual(['a attempting', 'a joe@gate.test delivered 250']);
  });
  test('takes no longer than before where nobody answers', async () => {
    const run = deliver([PIPELINED], { entries });
    await run.reached();
    await run.env.advance(PROBE_MS + REPLY_TIMEOUT_MS.final);
    expect(await run.done).toMatchObject({ code: 'timeout' });
    expect(run.lines).toEqual(['a attempting', 'a joe@gate.test uncertain']);
  });
  for (const [where, text] of [
    [
      'behind DATA, which would take it for text',
      `${OPENING('PIPELINING')}\n${MAIL}\n${RCPT}\nC:DATA\nS:250 ok\nS:250 ok`,
    ],
    ['in lockstep', `${OPENING('HELP')}\n${MAIL}\nS:250 ok\n${RCPT}\nS:250 ok\nC:DATA\nS:354 go${BODY}`],
  ] as const) {
    test(`is waited out ${where}`, async () => {
      const run = deliver([text], { entries });
      await run.reached();
      await run.env.advance(PROBE_MS * 2);
      expect(run.pairs[0]?.far.read()).toBeNull();
      await run.env.advance(REPLY_TIMEOUT_MS.final);
      expect(await run.done).toMatchObject({ code: 'timeout' });
    });
  }
});

/** A server that takes a message, says nothing, and closes its connection; netcat stays. */
async function mute(): Promise<{ server: Server; port: number }> {
  const server = createServer((socket) => {
    let text = '';
    socket.on('error', () => {});
    socket.write('220 gate.test\r\n');
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      if (text.endsWith('home.test\r\n')) socket.write('250-gate.test\r\n250 PIPELINING\r\n');
      else if (text.endsWith('DATA\r\n')) socket.write('250 ok\r\n250 ok\r\n354 go\r\n');
      else if (text.endsWith('\r\n.\r\n')) socket.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, port: (server.address() as AddressInfo).port };
}

test('a server that closes behind the real nc.openbsd is noticed, and the message is uncertain', async () => {
  await using gate = await startRig({ imapd: false });
  const { server, port } = await mute();
  // An hour passes in nine seconds.
  const env: Env = {
    ...systemEnv,
    monotonicNow: () => systemEnv.monotonicNow() * 400,
    schedule: (ms, run, o) => systemEnv.schedule(ms / 400, run, o),
  };
  const target: Target = { type: 'exec', command: `netcat 127.0.0.1 ${port}` };
  const told = makeReport();
  const ends: unknown[] = [];
  const onEvent: OnCourierEvent = (event) => void (event.type === 'closed' && ends.push(event.error));
  const courier = createCourier({ link: processLink(gate), target, helo: 'home.test', env, onEvent });
  await courier(toBatch(entries), told.report);
  server.close();
  expect(ends).toMatchObject([{ code: 'closed' }]);
  expect(told.lines).toEqual(['a attempting', 'a joe@gate.test uncertain']);
});
