import { expect, test } from 'vitest';
import type { Target } from './channel.ts';
import { formatTarget, parseTarget } from './target.ts';

test.each<[string, Target]>([
  ['netcat localhost smtp', { type: 'exec', command: 'netcat localhost smtp' }],
  ['tcp:localhost:25', { type: 'tcp', host: 'localhost', port: 25 }],
  ['tcp:[::1]:25', { type: 'tcp', host: '::1', port: 25 }],
  ['unix:/var/run/lmtp', { type: 'unix', path: '/var/run/lmtp' }],
  ['subsystem:sftp', { type: 'subsystem', name: 'sftp' }],
])('%s is read and written back', (text, target) => {
  expect(parseTarget(text)).toEqual(target);
  expect(formatTarget(target)).toBe(text);
});

test.each(['', ' ', 'tcp:localhost', 'tcp:localhost:0', 'tcp:localhost:70000', 'tcp::::1:25', 'unix:relative'])(
  '%j is refused with a reason',
  (text) => expect(() => parseTarget(text)).toThrow(RangeError),
);
