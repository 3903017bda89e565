import { conformance } from '../conformance.test-util.ts';
import { recordedLink, resolveRig, startSshRig } from '../rig.test-util.ts';
import { dialOpenssh } from './openssh.ts';

conformance("openssh: the system's ssh against a real sshd", async () => {
  const rig = await startSshRig();
  const { link } = recordedLink(await resolveRig(rig), { dial: dialOpenssh });
  return {
    link,
    dir: rig.home,
    hasSftp: true,
    cut: () => rig.ssh.dropConnections(),
    async silent() {
      const { link: other } = recordedLink(await resolveRig(rig), { openTimeoutMs: 300, dial: dialOpenssh });
      const first = await other.open({ type: 'exec', command: 'true' }, { signal: new AbortController().signal });
      await first.exit;
      await rig.ssh.pause();
      return {
        link: other,
        async end() {
          await rig.ssh.resume();
          await other.close();
        },
      };
    },
    async end() {
      await link.close();
      await rig.stop();
    },
  };
});
