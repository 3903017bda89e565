/** The certificates of listeners: loaded, checked, renewed without a restart. */
import { X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { createSecureContext, type SecureContext } from 'node:tls';
import type { Env } from '@postern/core';
import { errnoOf, PosternError } from '../base/errors.ts';
import { writePrivateFile } from '../base/private-file.ts';
import type { TlsFiles } from './files.ts';

/** How long before its end our own certificate is made anew, milliseconds. */
const RENEW_MS = 60 * 86_400_000;
/** How often a running daemon looks, milliseconds. */
const LOOK_MS = 86_400_000;

/** What a listener with TLS shows of itself. */
export interface TlsIdentity {
  readonly files: TlsFiles;
  /** SHA-256 of the certificate in use, upper-case hex with colons. */
  readonly fingerprint: string;
  /** Wall clock, ms. */
  readonly validTo: number;
  /** For the next handshake; read anew when the files have changed. */
  context(): SecureContext;
}

/**
 * Makes our own key and certificate where there are none, and another certificate with the same key when its end is near or this machine has another
 * name. Resolves whether it made one. Throws {@link PosternError} `io`.
 */
export async function ensureOwnCertificate(files: TlsFiles, o: { hostname: string; now: number }): Promise<boolean> {
  if (!files.own || (existsSync(files.key) && isGood(files.certificate, o))) return false;
  try {
    const { makeCertificate, makeKey } = await import('./certificate.ts');
    mkdirSync(dirname(files.key), { recursive: true, mode: 0o700 });
    if (!existsSync(files.key)) writePrivateFile(files.key, makeKey());
    const certificate = await makeCertificate(readFileSync(files.key, 'utf8'), { names: [o.hostname], now: o.now });
    writePrivateFile(files.certificate, certificate);
    return true;
  } catch (cause) {
    const why = errnoOf(cause) ?? (cause instanceof Error ? cause.message : String(cause));
    throw new PosternError('io', `no certificate can be made in ${files.certificate} (${why})`, {
      fix: `remove ${files.key} if it is damaged: another is made, and clients must be told to trust it`,
      cause,
    });
  }
}

function isGood(file: string, o: { hostname: string; now: number }): boolean {
  try {
    const certificate = new X509Certificate(readFileSync(file));
    const left = Date.parse(certificate.validTo) - o.now;
    return left > RENEW_MS && certificate.checkHost(o.hostname, { subject: 'never' }) !== undefined;
  } catch {
    return false;
  }
}

/** News of certificates, for the log. */
export type TlsEvent =
  | { readonly type: 'renewed'; readonly file: string; readonly fingerprint: string }
  /** The files have changed and cannot be used; the old ones are in use. */
  | { readonly type: 'unusable'; readonly file: string; readonly reason: string };

/** Certificates of a running daemon. */
export interface TlsIdentities extends Disposable {
  /** The identity in these files; the same files give the same one. Throws {@link PosternError} `config` when they cannot be used. */
  of(files: TlsFiles): Promise<TlsIdentity>;
  /** Those in use. */
  readonly all: readonly TlsIdentity[];
}

/** Keeps the certificates of a daemon: its own is renewed in time, what changes on disk is taken over. */
export function openTlsIdentities(o: {
  readonly hostname: string;
  readonly env: Env;
  readonly onEvent: (event: TlsEvent) => void;
}): TlsIdentities {
  const known = new Map<string, Promise<TlsIdentity>>();
  const all: TlsIdentity[] = [];
  let timer: Disposable | undefined;
  const ensure = (files: TlsFiles): Promise<boolean> =>
    ensureOwnCertificate(files, { hostname: o.hostname, now: o.env.wallNow() });
  const look = (files: TlsFiles, identity: TlsIdentity): void => {
    timer = o.env.schedule(LOOK_MS, () => {
      void ensure(files)
        .then((renewed) => renewed && identity.context())
        .catch((error: Error) => o.onEvent({ type: 'unusable', file: files.certificate, reason: error.message }))
        .then(() => look(files, identity));
    });
  };
  const open = async (files: TlsFiles): Promise<TlsIdentity> => {
    await ensure(files);
    const identity = openIdentity(files, o.onEvent);
    all.push(identity);
    if (files.own) look(files, identity);
    return identity;
  };
  return {
    all,
    of(files) {
      const opened = known.get(files.certificate) ?? open(files);
      known.set(files.certificate, opened);
      return opened;
    },
    [Symbol.dispose]() {
      timer?.[Symbol.dispose]();
    },
  };
}

interface Loaded {
  readonly context: SecureContext;
  readonly certificate: X509Certificate;
  /** Tells one state of the files from another. */
  readonly stamp: string;
}

function openIdentity(files: TlsFiles, onEvent: (event: TlsEvent) => void): TlsIdentity {
  let loaded = load(files);
  let failed = '';
  const refresh = (): void => {
    const stamp = stampOf(files);
    if (stamp === undefined || stamp === loaded.stamp || stamp === failed) return;
    try {
      loaded = load(files);
      failed = '';
      const { fingerprint256: fingerprint } = loaded.certificate;
      onEvent({ type: 'renewed', file: files.certificate, fingerprint });
    } catch (error) {
      failed = stamp;
      onEvent({ type: 'unusable', file: files.certificate, reason: (error as Error).message });
    }
  };
  return {
    files,
    get fingerprint() {
      return loaded.certificate.fingerprint256;
    },
    get validTo() {
      return Date.parse(loaded.certificate.validTo);
    },
    context() {
      refresh();
      return loaded.context;
    },
  };
}

function stampOf(files: TlsFiles): string | undefined {
  try {
    return [files.certificate, files.key]
      .map((file) => statSync(file))
      .map(({ mtimeMs, ino, size }) => `${mtimeMs} ${ino} ${size}`)
      .join(' ');
  } catch {
    return undefined;
  }
}

function load(files: TlsFiles): Loaded {
  const stamp = stampOf(files) ?? '';
  try {
    const cert = readFileSync(files.certificate);
    const key = readFileSync(files.key);
    const certificate = new X509Certificate(cert);
    const context = createSecureContext({ cert, key, minVersion: 'TLSv1.2' });
    return { context, certificate, stamp };
  } catch (cause) {
    const error = cause as NodeJS.ErrnoException & { path?: string; reason?: string };
    const why = error.path === undefined ? (error.reason ?? error.message) : `${error.path}: ${error.code}`;
    throw new PosternError('config', `tls_certificate ${files.certificate} with its key cannot be used: ${why}`, {
      fix: 'both must be PEM files, the key unencrypted and the one the certificate was made for',
      cause,
    });
  }
}
