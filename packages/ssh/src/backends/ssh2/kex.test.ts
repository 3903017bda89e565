import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { PassThrough } from 'node:stream';
import { systemEnv } from '@postern/core';
import { GateError } from '@postern/gate';
import ssh2 from 'ssh2';
import { describe, expect, type TestContext, test } from 'vitest';
import type { DialProgress } from '../../connection.ts';
import { resolveRig, type SshRig, startSshRig } from '../../rig.test-util.ts';
import { internalsOf } from './internals.ts';
import { offerMlkem } from './kex.ts';
import { loadKem, MLKEM_NAME } from './mlkem.ts';
import { dialSsh2 } from './ssh2.ts';

const require = createRequire(import.meta.url);

/** A client that has just been told to connect. */
function connecting(): { client: ssh2.Client; end: () => void } {
  const client = new ssh2.Client();
  const socket = new PassThrough();
  client.on('error', () => {});
  client.connect({ sock: socket as never, username: 'x', readyTimeout: 0 });
  return { client, end: () => void socket.destroy() };
}

describe('what is used of ssh2 1.17.0', () => {
  test('the method is first of what is sent, and not among what is matched', async () => {
    const { client, end } = connecting();
    const protocol = internalsOf(client)._protocol as never as {
      _offer: {
        lists: { kex: { array: string[]; buffer: Buffer } };
        totalSize: number;
        copyAllTo(to: Buffer, at: number): number;
      };
    };
    const before = protocol._offer.lists.kex.array;
    offerMlkem(client, await loadKem());
    const { lists, totalSize } = protocol._offer;
    expect(lists.kex.array).toEqual(before);
    const sent = Buffer.alloc(totalSize);
    expect(protocol._offer.copyAllTo(sent, 0)).toBe(totalSize);
    expect(sent.toString('latin1', 4).startsWith(`${MLKEM_NAME},${before.join(',')}`)).toBe(true);
    end();
  });

  test('payloads pass one reader, which is replaced when compression begins', () => {
    const { client, end } = connecting();
    const { _packetRW } = internalsOf(client)._protocol as never as { _packetRW: { read: { read: unknown } } };
    expect(_packetRW.read.read).toBeTypeOf('function');
    expect(Object.getOwnPropertyDescriptor(_packetRW, 'read')).toMatchObject({ writable: true, configurable: true });
    end();
  });

  test('its exchange has the methods and fields that are given to it', () => {
    const source = require('node:fs').readFileSync(require.resolve('ssh2/lib/protocol/kex.js'), 'utf8') as string;
    expect(source).toContain('self._kex = createKeyExchange(init, self, payload);');
    expect(source).toContain('self._kex.start();');
    for (const used of [
      'this._remoteKexinit',
      'this.hashName',
      'this.computeSecret(this._dhData)',
      'this.convertPublicKey(',
    ]) {
      expect(source).toContain(used);
    }
  });
});

/** An sshd that takes nothing but the method; skips where this machine's is older than OpenSSH 9.9. */
async function onlyMlkem(context: TestContext, ...lines: string[]): Promise<SshRig> {
  try {
    return await startSshRig({ sshd: { config: [`KexAlgorithms ${MLKEM_NAME}`, ...lines] } });
  } catch (error) {
    if (!(error instanceof GateError) || !/Bad SSH2 KexAlgorithms/i.test(error.message)) throw error;
    return context.skip(`this machine's sshd does not know ${MLKEM_NAME}`);
  }
}

describe('with a real sshd that takes nothing else', () => {
  test('a command runs, and the log of the far side warns of nothing', async (context) => {
    await using rig = await onlyMlkem(context);
    const news: DialProgress[] = [];
    const connection = await dialSsh2(
      await resolveRig(rig),
      options((event) => news.push(event)),
    );
    expect(news).toContainEqual({ type: 'passed', step: 'kex', algorithm: MLKEM_NAME });
    const channel = await connection.open({ type: 'exec', command: 'echo hello' }, options());
    expect((await read(channel.stream)).toString()).toBe('hello\n');
    await connection.end();
    expect(rig.ssh.log().filter((line) => /warning|post-quantum/i.test(line))).toEqual([]);
  });

  test('200 MB come whole while keys are exchanged anew every megabyte', async (context) => {
    await using rig = await onlyMlkem(context, 'RekeyLimit 1M');
    const connection = await dialSsh2(await resolveRig(rig), options());
    const bytes = 200 * 1024 * 1024;
    const make = `openssl enc -aes-128-ctr -nosalt -K ${'0'.repeat(32)} -iv ${'0'.repeat(32)} -in /dev/zero 2>/dev/null || cat /dev/zero`;
    const command = `(${make}) | head -c ${bytes}`;
    const channel = await connection.open({ type: 'exec', command }, options());
    const digest = createHash('sha256');
    let length = 0;
    for await (const chunk of channel.stream as AsyncIterable<Buffer>) {
      digest.update(chunk);
      length += chunk.length;
    }
    const asked = await connection.open(
      { type: 'exec', command: `(${make}) | head -c ${bytes} | sha256sum` },
      options(),
    );
    expect(length).toBe(bytes);
    expect((await read(asked.stream)).toString().slice(0, 64)).toBe(digest.digest('hex'));
    await connection.end();
  });
});

function options(onProgress: (news: DialProgress) => void = () => {}) {
  return { env: systemEnv, signal: new AbortController().signal, link: 'gate', onProgress };
}

async function read(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}
