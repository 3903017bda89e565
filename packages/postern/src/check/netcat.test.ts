import { expect, test } from 'vitest';
import { netcatWarnings } from './netcat.ts';

test.each([
  ['netcat localhost smtp', 0],
  ['nc -w 600 localhost 25', 0],
  ['nc -w 1 localhost smtp', 1],
  ['nc -w1 localhost smtp', 1],
  ['/bin/nc.openbsd -Nw 30 localhost smtp', 1],
  ['exec nc -q 0 localhost 25', 1],
  ['nc -q0 -w 5 localhost 25', 2],
  ['nc -q 1 localhost 25', 0],
  ['nc -q -1 localhost 25', 0],
  ['sendmail -bs -w 1', 0],
])('%s: %i warnings', (command, count) => expect(netcatWarnings(command)).toHaveLength(count));
