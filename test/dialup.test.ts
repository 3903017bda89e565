import { freePort, type Gate, readMaildir } from '@postern/gate';
import { startPostfix, startRig } from '@postern/testkit/rig';
import { createTransport } from 'nodemailer';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makePlace, PLAIN, postern, up } from './support/postern.ts';

/** Receiving for a domain behind a dial-up line: a far Postfix keeps its mail until the line is there, and is asked for it then. */
let far: Gate;
let home: Gate;

beforeAll(async () => {
  [far, home] = await Promise.all([startRig({ smtp: false, imapd: false }), startRig({ smtp: false, imapd: false })]);
});

afterAll(async () => {
  await far?.stop();
  await home?.stop();
});

test('mail that waits at a far Postfix comes to the Postfix here at link-up, by ETRN and a reverse forward', async () => {
  const line = await freePort();
  const mta = await startPostfix(far, {
    settings: {
      relay_domains: 'home.example',
      transport_maps: `inline:{ home.example=relay:[127.0.0.1]:${line} }`,
      // Longer than this test: nothing but the ETRN brings the mail.
      minimal_backoff_time: '3000s',
      queue_run_delay: '3000s',
    },
  });
  const local = await startPostfix(home, { domains: ['home.example', 'private.example'] });

  const send = createTransport({ host: '127.0.0.1', port: mta.port, ignoreTLS: true });
  await send.sendMail({ from: 'friend@far.example', to: 'me@home.example', subject: 'waited for you', text: 'hello' });
  while (!/status=deferred/.test(await mta.log())) await postern(place0(), ['--version']);
  expect(await readMaildir(home.maildir)).toEqual([]);

  const reverse = `[[reverse]]\nhost = "gate"\nlisten = "127.0.0.1:${line}"\nto = "127.0.0.1:${local.port}"\ndomains = ["home.example"]\n`;
  const place = await makePlace(far, `[host.gate]\nsmtp = "tcp:127.0.0.1:${mta.port}"\n${PLAIN}\n${reverse}`);
  const daemon = await up(place);
  try {
    await daemon.logged(/asked for the mail that waits there: home\.example: 250/);
    for (;;) {
      const texts = (await readMaildir(home.maildir)).map((bytes) => bytes.toString('latin1'));
      if (texts.some((text) => text.includes('Subject: waited for you'))) break;
      await postern(place, ['--version']);
    }
    expect(await mta.log()).toMatch(/status=sent/);
  } finally {
    await daemon.stop();
  }
});

/** For a command that needs no configuration: it only passes the time. */
function place0(): Parameters<typeof postern>[0] {
  return { dir: far.dir, config: '/dev/null', env: process.env };
}
