/** What a check found, as values and as lines. */
import { printable } from '@postern/core';

/** The layers `check` tries, from the outside in. */
export type CheckLayer =
  | 'config'
  | 'dns'
  | 'tcp'
  | 'kex'
  | 'hostkey'
  | 'auth'
  | 'shell'
  | 'imapd'
  | 'preauth'
  | 'inbox'
  | 'smtp';

/** How a layer did. */
export interface LayerResult {
  readonly layer: CheckLayer;
  readonly ok: boolean;
  /** Milliseconds it took. */
  readonly ms: number;
  /** What was found, or why it failed: one sentence. From afar in part, escaped. */
  readonly detail: string;
  /** What works but should be changed. */
  readonly warnings: readonly string[];
  /** What to do about a failure. */
  readonly fix?: string;
}

/** How a host did: every layer up to the first that fails. */
export interface HostReport {
  readonly host: string;
  readonly ok: boolean;
  /** 0, or the exit status of the failure. */
  readonly status: number;
  readonly layers: readonly LayerResult[];
}

const NAMES: Readonly<Record<CheckLayer, string>> = {
  config: 'configuration',
  dns: 'DNS',
  tcp: 'TCP',
  kex: 'key exchange',
  hostkey: 'host key',
  auth: 'authentication',
  shell: 'shell',
  imapd: 'imapd',
  preauth: 'PREAUTH',
  inbox: 'INBOX',
  smtp: 'SMTP',
};

/** A layer's result as lines for people. */
export function formatLayer(result: LayerResult): string[] {
  const head = `  ${result.ok ? 'ok  ' : 'FAIL'}  ${NAMES[result.layer].padEnd(14)} ${`${Math.round(result.ms)} ms`.padStart(8)}`;
  return [
    `${head}  ${printable(result.detail)}`.trimEnd(),
    ...result.warnings.map((warning) => `        warning: ${printable(warning)}`),
    ...(result.fix === undefined ? [] : [`        fix: ${printable(result.fix)}`]),
  ];
}
