import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Gate } from '@postern/gate';
import { type Simulator, startSimulator } from '@postern/testkit';

/** A line to the gate that can be shaped and broken, and the `[host.gate]` that goes through it. */
export async function lineTo(gate: Gate): Promise<{ readonly line: Simulator; readonly host: string }> {
  const line = await startSimulator({ port: gate.ssh.port });
  const known = join(gate.dir, 'known-line');
  await writeFile(known, `[127.0.0.1]:${line.port} ${gate.ssh.hostKey}\n`);
  const host = `
[host.gate]
destination = "${gate.account.user}@127.0.0.1:${line.port}"
identity = ["${gate.client.identityFile}"]
known_hosts = ["${known}"]
`;
  return { line, host };
}
