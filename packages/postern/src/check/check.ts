/** `postern check`: one layer after the other, and the first that fails names its fix. */
import { isIP } from 'node:net';
import { type Channel, deadline, type Env, type Link, LinkError, printable, raceAbort } from '@postern/core';
import { ImapError } from '@postern/imap';
import { DeliveryError } from '@postern/smtp';
import {
  acceptNewHostKey,
  type Connection,
  createLink,
  type DialStep,
  dialHost,
  isPostQuantum,
  type ResolvedHost,
} from '@postern/ssh';
import { EXIT_STATUS, PosternError } from '../base/errors.ts';
import { heloName } from '../base/machine.ts';
import type { Surroundings } from '../base/paths.ts';
import { resolveConfigured } from '../config/host.ts';
import type { Config } from '../config/load.ts';
import { checkImap } from './imap.ts';
import { LAYER_MS, timeout } from './layer.ts';
import type { CheckLayer, HostReport, LayerResult } from './report.ts';
import { checkSmtp } from './smtp.ts';

/** What a shell may print before a command runs and be told of, octets. */
const NOISE_MAX = 64 * 1024;

/** What {@link checkHost} needs. */
export interface CheckOptions {
  readonly config: Config;
  readonly surroundings: Surroundings;
  readonly env: Env;
  readonly acceptNewHostKey: boolean;
  /** Called as each layer is done. */
  readonly onLayer: (result: LayerResult) => void;
}

/** Tries each layer of a host in turn and stops at the first that fails. Never rejects for a fault of the host. */
export async function checkHost(name: string, o: CheckOptions): Promise<HostReport> {
  const layers: LayerResult[] = [];
  const steps = new Steps(o, (result) => {
    layers.push(result);
    o.onLayer(result);
  });
  try {
    await runLayers(name, o, steps);
    return { host: name, ok: true, status: 0, layers };
  } catch (error) {
    const { fix, status, detail, layer } = explain(error, name, steps.current);
    steps.fail(layer, detail, fix);
    return { host: name, ok: false, status, layers };
  }
}

/** Times the layers. */
class Steps {
  current: CheckLayer = 'config';
  readonly #env: Env;
  readonly #report: (result: LayerResult) => void;
  #since: number;

  constructor(o: CheckOptions, report: (result: LayerResult) => void) {
    this.#env = o.env;
    this.#report = report;
    this.#since = o.env.monotonicNow();
  }

  pass(layer: CheckLayer, detail: string, warnings: readonly string[] = []): void {
    this.#report({ layer, ok: true, ms: this.#lap(), detail, warnings });
  }

  fail(layer: CheckLayer, detail: string, fix: string | undefined): void {
    this.#report({ layer, ok: false, ms: this.#lap(), detail, warnings: [], ...(fix === undefined ? {} : { fix }) });
  }

  #lap(): number {
    const now = this.#env.monotonicNow();
    const ms = now - this.#since;
    this.#since = now;
    return Math.round(ms * 10) / 10;
  }
}

async function runLayers(name: string, o: CheckOptions, steps: Steps): Promise<void> {
  const resolved = await resolveConfigured(name, o.config, o.surroundings);
  const values = o.config.hosts.get(name);
  if (o.acceptNewHostKey) await accept(resolved, o, steps);
  const connection = await dial(resolved, o, steps);
  // The link takes the connection that is there, so that all layers speak of the same one.
  const link = createLink(resolved, { env: o.env, dial: () => Promise.resolve(connection) });
  try {
    steps.current = 'shell';
    steps.pass('shell', await listenForNoise(link, o.env));
    steps.current = 'imapd';
    await checkImap(link, {
      command: values?.imapd,
      env: o.env,
      begin(layer) {
        steps.current = layer;
      },
      pass: (layer, detail) => steps.pass(layer, detail),
    });
    steps.current = 'smtp';
    const helo = o.config.smtp?.helo ?? heloName();
    const found = await checkSmtp({ link, values, routes: o.config.routes, env: o.env, timeoutMs: LAYER_MS, helo });
    steps.pass('smtp', found.detail, found.warnings);
  } finally {
    await link.close();
  }
}

async function accept(resolved: ResolvedHost, o: CheckOptions, steps: Steps): Promise<void> {
  steps.current = 'hostkey';
  using limit = deadline(o.env, LAYER_MS * 2, { reason: () => timeout('hostkey') });
  for (const key of await acceptNewHostKey(resolved, { env: o.env, signal: limit.signal })) {
    steps.pass('hostkey', `accepted ${key.fingerprint} for ${key.name}, written to ${key.file}`);
  }
}

/** In the order they are passed. */
const DIAL_STEPS: readonly DialStep[] = ['dns', 'tcp', 'kex', 'hostkey', 'auth'];

const DIAL_DETAIL: Readonly<Record<DialStep, (host: ResolvedHost, algorithm: string) => string>> = {
  dns: (host) => host.hostname,
  tcp: (host) => `port ${host.port}`,
  kex: (_, algorithm) => `${algorithm}, ${isPostQuantum(algorithm) ? 'post-quantum' : 'not post-quantum'}`,
  hostkey: () => 'as in known_hosts',
  auth: (host) => `as ${host.user}`,
};

async function dial(resolved: ResolvedHost, o: CheckOptions, steps: Steps): Promise<Connection> {
  const order: readonly CheckLayer[] = DIAL_STEPS;
  steps.current = 'dns';
  using limit = deadline(o.env, LAYER_MS * 2, { reason: () => timeout(steps.current) });
  if (resolved.jump.length === 0 && isIP(resolved.hostname) !== 0) {
    steps.pass('dns', `${resolved.hostname} is an address`);
    steps.current = 'tcp';
  }
  return await dialHost(resolved, {
    env: o.env,
    signal: limit.signal,
    link: resolved.host,
    onProgress(news) {
      if (news.type !== 'passed') return;
      const hop = resolved.jump.find((candidate) => candidate.host === news.hop);
      const detail = DIAL_DETAIL[news.step](hop ?? resolved, news.algorithm ?? '');
      steps.pass(news.step, news.hop === undefined ? detail : `${detail} (jump host ${news.hop})`);
      // Behind a jump host's login comes the connection to the next.
      steps.current = order[order.indexOf(news.step) + 1] ?? (news.hop === undefined ? 'auth' : 'tcp');
    },
  });
}

/** Runs nothing in the far shell: whatever comes out is its startup files talking. */
async function listenForNoise(link: Link, env: Env): Promise<string> {
  using limit = deadline(env, LAYER_MS, { reason: () => timeout('shell') });
  const channel = await link.open({ type: 'exec', command: ':' }, { signal: limit.signal });
  try {
    const said = await raceAbort(readAll(channel), limit.signal);
    if (said.trim() === '') return 'quiet';
    return `prints ${printable(JSON.stringify(said.trim()), 120)} before every command (skipped; \`ssh ${link.host} :\` shows it)`;
  } finally {
    channel.abort(new LinkError('done', { code: 'aborted', layer: 'channel' }));
  }
}

async function readAll(channel: Channel): Promise<string> {
  channel.stream.on('error', () => {});
  channel.stream.end();
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of channel.stream as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > NOISE_MAX) break;
  }
  return Buffer.concat(chunks).toString('latin1');
}

interface Explained {
  readonly layer: CheckLayer;
  readonly detail: string;
  readonly fix: string | undefined;
  readonly status: number;
}

/** A failure as its layer, one sentence, the fix and the exit status. */
function explain(error: unknown, host: string, current: CheckLayer): Explained {
  const detail = error instanceof Error ? error.message : String(error);
  if (error instanceof ImapError) {
    const layer = error.code === 'no-imapd' ? 'imapd' : 'preauth';
    return { layer, detail, fix: imapFix(error, host), status: EXIT_STATUS.unavailable };
  }
  if (error instanceof DeliveryError)
    return { layer: 'smtp', detail, fix: smtpFix(host, detail), status: EXIT_STATUS.unavailable };
  if (error instanceof PosternError) return { layer: current, detail, fix: error.fix, status: error.status };
  if (!(error instanceof LinkError)) throw error;
  const layer = DIAL_STEPS.find((name) => name === error.layer) ?? current;
  const denied = error.layer === 'hostkey' || error.layer === 'auth';
  const refused = error.code === 'config' ? EXIT_STATUS.config : EXIT_STATUS.unavailable;
  const status = denied ? EXIT_STATUS['no-permission'] : refused;
  return { layer, detail, fix: error.fix ?? linkFix(error, host), status };
}

function imapFix(error: ImapError, host: string): string {
  if (error.code === 'no-imapd') {
    return `install Dovecot there, or name its command: [host.${host}] imapd = "/usr/lib/dovecot/imap"`;
  }
  return `\`ssh ${host} imapd\` must greet with \`* PREAUTH\`; name a command that does: [host.${host}] imapd = "…"`;
}

function smtpFix(host: string, detail: string): string {
  // The name itself is what is wrong there.
  if (detail.includes('[smtp] helo'))
    return 'in the configuration, below [smtp]:  helo = "the.full.name.of.this.machine"';
  return `\`ssh ${host} netcat localhost smtp\` must greet with 220; or name what does: [host.${host}] smtp = "tcp:localhost:25"`;
}

function linkFix(error: LinkError, host: string): string {
  switch (error.layer) {
    case 'dns':
      return `\`ssh -G ${host}\` shows the name it resolves to; correct HostName there, or [host.${host}] destination`;
    case 'auth':
      return `\`ssh ${host} true\` must work without a password: \`ssh-add\` your key, or \`ssh-copy-id ${host}\``;
    case 'hostkey':
      return 'ask whoever runs that host; ssh-keyscan shows the keys it offers';
    default:
      return `\`ssh -v ${host} true\` shows how far it gets`;
  }
}
