/** Identities are offered in ssh's order, and a refusal names each that was tried. */
import { LinkError, quote } from '@postern/core';
import ssh2 from 'ssh2';
import { formatAddress } from '../host/destination.ts';
import type { ResolvedHost } from '../host/resolved-host.ts';
import { markNeedsOpenssh } from '../needs-openssh.ts';
import type { Identities, Identity } from './identities.ts';

/** What offers keys one by one, and tells afterwards what came of it. */
export interface Authenticator {
  readonly handler: ssh2.AuthHandlerMiddleware;
  /** True once the server was offered anything. */
  readonly started: boolean;
  /** Notes what the server would accept. */
  accepts(methods: readonly string[]): void;
  /** Notes why a key that the server wanted could not sign. */
  note(text: string): void;
  /** The failure, after the server refused everything or hung up over it. */
  failure(cause?: unknown): LinkError;
}

/** Public key authentication alone (RFC 4252 §7): nothing here could ever prompt. */
export function authenticator(host: ResolvedHost, identities: Identities): Authenticator {
  const queue = [...identities.offered];
  const tried: string[] = [];
  const notes: string[] = [];
  let started = false;
  let accepts: readonly string[] | undefined;
  return {
    get started() {
      return started;
    },
    accepts(methods) {
      accepts = methods;
    },
    note: (text) => void notes.push(text),
    handler(_methodsLeft, _partial, next) {
      const usable = accepts === undefined || accepts.includes('publickey');
      const identity = usable ? queue.shift() : undefined;
      if (identity === undefined && (started || identities.offered.length > 0)) return next(false as never);
      started = true;
      // With no key at all the server is still asked, for the list of what it would accept (RFC 4252 §5.2).
      if (identity === undefined) return next({ type: 'none', username: host.user });
      tried.push(identity.label);
      next({ type: 'agent', username: host.user, agent: new OneKeyAgent(identity) });
    },
    failure(cause) {
      const error = new LinkError(describe(host, { tried, notes: [...notes, ...identities.notices], accepts }), {
        code: 'auth-failed',
        layer: 'auth',
        fix: advise(host, identities, { accepts, notes }),
        cause,
      });
      return identities.passedOver ? markNeedsOpenssh(error) : error;
    },
  };
}

function describe(
  host: ResolvedHost,
  o: { tried: readonly string[]; notes: readonly string[]; accepts: readonly string[] | undefined },
): string {
  const who = `${host.user} at ${formatAddress(host.hostname, host.port)}`;
  const tried = o.tried.length === 0 ? 'there was no key to offer' : `tried ${o.tried.join(', ')}`;
  const notes = o.notes.length === 0 ? '' : `; ${o.notes.join('; ')}`;
  const accepts = o.accepts === undefined ? '' : `; the server accepts ${o.accepts.join(', ') || 'nothing'}`;
  return `the server does not let in ${who}: ${tried}${notes}${accepts}`;
}

function advise(
  host: ResolvedHost,
  identities: Identities,
  o: { accepts: readonly string[] | undefined; notes: readonly string[] },
): string {
  if (o.accepts !== undefined && !o.accepts.includes('publickey')) {
    return `the server takes no keys: allow publickey there, or set backend = "openssh" for ${host.host} if it takes GSSAPI`;
  }
  if (o.notes.length > 0) return 'make that key usable, e.g. load it into the agent with ssh-add';
  if (identities.offered.length === 0) {
    return `give a key: IdentityFile in ssh_config, or load one into the agent with ssh-add`;
  }
  const where = `${host.port === 22 ? '' : `-p ${host.port} `}${quote(`${host.user}@${host.hostname}`)}`;
  return `put one of these keys into ~/.ssh/authorized_keys there (ssh-copy-id ${where}), or name the right one as IdentityFile`;
}

/** Shows ssh2 one key, wherever it lives, so that every key goes the same way and a signature is made only when asked for. */
class OneKeyAgent extends ssh2.BaseAgent<Buffer> {
  readonly #identity: Identity;
  constructor(identity: Identity) {
    super();
    this.#identity = identity;
  }
  override getIdentities(done: ssh2.IdentityCallback<Buffer>): void {
    done(null, [this.#identity.publicKey]);
  }
  override sign(_key: Buffer, data: Buffer, o: unknown, callback?: ssh2.SignCallback): void {
    const done = (typeof o === 'function' ? o : callback) as ssh2.SignCallback;
    const hash = typeof o === 'object' && o !== null ? (o as { hash?: string }).hash : undefined;
    // A server that announces no RSA with SHA-2 (RFC 8308) is asked with SHA-1 by ssh2 1.17.0; that is never signed.
    if (hash === 'sha1') {
      done(new Error('the server knows only SHA-1 signatures for RSA keys, which are not made'));
      return;
    }
    this.#identity.sign(data, hash).then(
      (signature) => done(null, signature),
      (error) => done(error),
    );
  }
}
