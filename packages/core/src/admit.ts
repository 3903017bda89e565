/** Who may come in is decided before the first octet is written, by whoever knows the connection's other end. */
import type { Socket } from 'node:net';

/** Who a local peer is, decided before the banner. */
export type Admission =
  /** Comes in with any name and password, or none. `who` is for the log: `same-user`, `user:NAME`, `anyone`, `unix`. */
  | { readonly type: 'open'; readonly who: string }
  /** Must give the local password; `verify` compares in constant time. */
  | { readonly type: 'password'; verify(password: string): boolean }
  /** Closed before the banner. */
  | { readonly type: 'refused'; readonly reason: string };

/** The one judge of both listeners: loopback is not trust, since every local user and every web page reaches it. Never rejects. */
export type Admit = (socket: Socket) => Promise<Admission>;
