import { LinkError, type LinkErrorCode } from '@postern/core';
import { describe, expect, test } from 'vitest';
import { type LinkInput, type Phase, STABLE_MS, step } from './link-machine.ts';

const fault = (code: LinkErrorCode): LinkError => new LinkError(code, { code, layer: 'tcp' });
const failed = (code: LinkErrorCode = 'refused'): LinkInput => ({ type: 'failed', error: fault(code) });
/** Runs events in order, with the greatest randomness. */
function run(events: readonly LinkInput[], from: Phase = { type: 'idle' }): Phase {
  return events.reduce((phase, event) => step(phase, event, 1), from);
}
const wake = (why: 'flush' | 'login' | 'network' | 'reload'): LinkInput => ({ type: 'wake', why });
const wanted: LinkInput = { type: 'wanted' };
const due: LinkInput = { type: 'due' };

describe('a link', () => {
  test('does nothing until it is wanted', () => {
    expect(run([due, { type: 'changed' }, wake('network'), wake('reload')])).toEqual({ type: 'idle' });
    expect(run([wanted])).toMatchObject({ type: 'dialling', attempt: 1 });
    expect(run([wake('login')])).toMatchObject({ type: 'dialling', attempt: 1 });
  });

  test('backs off from 1 s to 60 s, and draws from the whole span', () => {
    let phase = run([wanted, failed()]);
    const waits: (number | undefined)[] = [];
    for (let n = 0; n < 9; n++) {
      if (phase.type === 'down') waits.push(phase.retryInMs);
      phase = run([due, failed()], phase);
    }
    expect(waits).toEqual([1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000]);
    expect(step(run([wanted]), failed(), 0)).toMatchObject({ retryInMs: 0 });
    expect(step(run([wanted]), failed(), 0.5)).toMatchObject({ retryInMs: 500 });
  });

  test('starts the back-off afresh after a connection that stood, not after one that fell at once', () => {
    const up = run([wanted, failed(), due, failed(), due, failed(), due, { type: 'dialled' }]);
    const lost = (stoodMs: number): Phase => step(up, { type: 'lost', error: fault('lost'), stoodMs }, 1);
    expect(lost(STABLE_MS)).toMatchObject({ type: 'down', attempt: 1, retryInMs: 1000 });
    expect(lost(STABLE_MS - 1)).toMatchObject({ type: 'down', attempt: 4, retryInMs: 8000 });
  });

  test.each(['flush', 'login', 'network', 'reload'] as const)(
    'woken by %s while down dials at once, as the first time',
    (why) => {
      expect(run([wanted, failed(), due, failed(), wake(why)])).toMatchObject({ type: 'dialling', attempt: 1 });
    },
  );

  test('woken while dialling keeps its dial, unless the network changed', () => {
    const phase = run([wanted, failed(), due]);
    expect(step(phase, wake('flush'), 1)).toEqual({ type: 'dialling', attempt: 1, dial: 2 });
    expect(step(phase, wake('network'), 1)).toEqual({ type: 'dialling', attempt: 1, dial: 3 });
  });

  test('redirected, dials anew wherever it stands, unless nothing wanted it yet', () => {
    const redirected: LinkInput = { type: 'redirected' };
    expect(run([redirected])).toEqual({ type: 'idle' });
    for (const before of [[wanted], [wanted, failed('hostkey-unknown')], [wanted, { type: 'dialled' } as const]])
      expect(run([...before, redirected])).toEqual({ type: 'dialling', attempt: 1, dial: 2 });
  });

  test('waits for somebody after a host key fault', () => {
    const down = run([wanted, failed('hostkey-unknown')]);
    expect(down).not.toHaveProperty('retryInMs');
    for (const why of ['flush', 'login', 'network'] as const) expect(step(down, wake(why), 1)).toBe(down);
    expect(step(down, wanted, 1)).toBe(down);
    expect(step(down, wake('reload'), 1)).toMatchObject({ type: 'dialling' });
    expect(step(down, { type: 'changed' }, 1)).toMatchObject({ type: 'dialling' });
  });

  test('tries a refused key again every 10 min, and when asked', () => {
    const down = run([wanted, failed('auth-failed')]);
    expect(down).toMatchObject({ retryInMs: 600_000 });
    expect(step(down, wake('network'), 1)).toBe(down);
    for (const why of ['flush', 'login', 'reload'] as const) {
      expect(step(down, wake(why), 1)).toMatchObject({ type: 'dialling', attempt: 1 });
    }
  });

  test('closed stays closed', () => {
    const closed = run([wanted, { type: 'close' }]);
    expect(run([wanted, wake('reload'), due, { type: 'dialled' }], closed)).toEqual({ type: 'closed' });
  });

  test('minds no late news of a dial it has given up', () => {
    const down = run([wanted, failed()]);
    expect(step(down, { type: 'dialled' }, 1)).toBe(down);
    expect(step(down, failed('timeout'), 1)).toBe(down);
  });
});
