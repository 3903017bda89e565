/** A process of its own, over the built packages, that holds COUNT idle channels to `gate`, so that its memory can be read: CONFIG COUNT. */
import { systemEnv } from '@postern/core';
import { createLink, resolveHost } from '@postern/ssh';

const [sshConfig = '', count = '1'] = process.argv.slice(2);
const link = createLink(await resolveHost('gate', { sshConfig }), { env: systemEnv });
const { signal } = new AbortController();
for (let index = 0; index < Number(count); index++) {
  const channel = await link.open({ type: 'exec', command: 'cat' }, { signal });
  channel.stream.resume();
}
console.log('ready');
setInterval(() => {}, 60_000);
