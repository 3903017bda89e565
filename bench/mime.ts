/**
 * Messages of 10 MB made fit for a server: what is changed, how fast, and what it costs in memory, against Nodemailer's own quoted-printable
 * encoder over the same bodies. `npm run bench -- mime`
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { fitted, surveyMessage } from '@postern/core';
import { encode, wrap } from 'nodemailer/lib/qp/index.js';
import { alternately, lasting, Report } from './lib/report.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
const MB = 1_000_000;
const CHUNK = 64 * 1024;
const report = new Report('mime');

const SHORT = 'plain words in a line of seventy characters or so, as people write\r\n';
const KINDS: readonly { what: string; line: string; head?: string; o: { sevenBit?: boolean } }[] = [
  { what: 'long lines', line: `${'word '.repeat(600)}\r\n`, o: {} },
  { what: 'one long line in forty short ones', line: `${SHORT.repeat(40)}${'word '.repeat(300)}\r\n`, o: {} },
  {
    what: '8-bit text, a server of 7 bits',
    line: 'Grüße aus Göteborg und noch ein paar Wörter mehr, ja\r\n',
    o: { sevenBit: true },
  },
  { what: 'lines of three letters and a NUL', line: `abc\r\n${'xyz\r\n'.repeat(1000)}\0\r\n`, o: {} },
  {
    what: 'forty short lines to a long one, a part',
    head: 'Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n',
    line: `${SHORT.repeat(40)}${'word '.repeat(300)}\r\n`,
    o: {},
  },
];

async function* each(message: readonly Buffer[]): AsyncGenerator<Buffer> {
  yield* message;
}

/** Both readings of the message, and the most memory the heap and its buffers had grown by, octets. */
async function makeFit(message: readonly Buffer[], o: { sevenBit?: boolean }): Promise<number> {
  collect();
  const used = (): number => {
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  const before = used();
  let most = 0;
  const survey = surveyMessage(o);
  for (const chunk of message) survey.push(chunk);
  let pieces = 0;
  for await (const _ of fitted(each(message), survey.finish())) {
    if (pieces++ % 16 !== 0) continue;
    collect();
    most = Math.max(most, used() - before);
  }
  return most;
}

for (const { what, line, head = 'Subject: x\r\n', o } of KINDS) {
  const body = line.repeat(Math.ceil((10 * MB) / Buffer.byteLength(line)));
  const bytes = Buffer.from(`${head}Content-Type: text/plain; charset=utf-8\r\n\r\n${body}`);
  const chunks = Array.from({ length: Math.ceil(bytes.length / CHUNK) }, (_, at) =>
    bytes.subarray(at * CHUNK, (at + 1) * CHUNK),
  );
  const rate = (task: () => unknown) => async (): Promise<number> =>
    bytes.length / MB / ((await lasting(async () => await task())) / 1000);
  await alternately(
    report,
    [
      {
        who: 'postern',
        run: rate(async () => {
          const survey = surveyMessage(o);
          for (const chunk of chunks) survey.push(chunk);
          for await (const _ of fitted(each(chunks), survey.finish()));
        }),
      },
      // It is given the lines one by one, since all at once it takes minutes.
      { who: 'nodemailer', run: rate(() => body.split('\r\n').map((one) => wrap(encode(one)))) },
    ],
    { what: `${what}, speed`, unit: 'MB/s', rounds: 3 },
  );
  report.add({ what: `${what}, memory`, who: 'postern', value: (await makeFit(chunks, o)) / MB, unit: 'MB' });
}
report.close(
  KINDS.flatMap(({ what }) => [
    { what: `${what}, speed`, ours: 'postern', factor: 50, atLeast: true },
    { what: `${what}, memory`, ours: 'postern', factor: 8 },
  ]),
);
