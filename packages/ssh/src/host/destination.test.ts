import { LinkError } from '@postern/core';
import { expect, test } from 'vitest';
import { type Destination, formatAddress, parseDestination } from './destination.ts';

test.each<[string, Destination]>([
  ['gate', { hostname: 'gate' }],
  ['me@gate', { user: 'me', hostname: 'gate' }],
  ['me@gate.example:2222', { user: 'me', hostname: 'gate.example', port: 2222 }],
  ['ssh://me@gate:22/', { user: 'me', hostname: 'gate', port: 22 }],
  ['a@b@gate', { user: 'a@b', hostname: 'gate' }],
  ['[::1]:2222', { hostname: '::1', port: 2222 }],
  ['[fe80::1%eth0]', { hostname: 'fe80::1%eth0' }],
  ['::1', { hostname: '::1' }],
  ['CORP\\me@gate', { user: 'CORP\\me', hostname: 'gate' }],
])('%s is read', (text, want) => expect(parseDestination(text)).toEqual(want));

test.each([
  '',
  '-oProxyCommand=id',
  'me@-x',
  '-l@gate',
  'gate:0',
  'gate:70000',
  'gate:x',
  'a b',
  'gate;id',
  'gate\n',
  '$(id)@gate',
  'me\\@gate',
  'CO\\RP\\-x;id@gate',
  '@gate',
])('%j is refused', (text) => {
  const read = (): Destination => parseDestination(text);
  expect(read).toThrow(LinkError);
  expect(read).toThrow(expect.objectContaining({ code: 'config', permanent: true }));
});

test('an address shows its port only when it is not 22', () => {
  expect([formatAddress('gate', 22), formatAddress('gate', 23)]).toEqual(['gate', '[gate]:23']);
});
