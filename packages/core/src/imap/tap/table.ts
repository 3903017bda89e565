/** What is done with a command that was under way when the line died: one row a command, after its effect. */

/** How a command is taken up again. */
export type Kind =
  /** No effect: given again. */
  | 'read'
  | 'search'
  | 'fetch'
  /** The same effect twice is the same effect: given again. */
  | 'store'
  | 'expunge'
  | 'set'
  /** A refusal may come from its own first run. */
  | 'folder'
  /** Twice is not once: looked for where it leads before it is given again. */
  | 'append'
  | 'copy'
  | 'move'
  /** Change where the session stands. */
  | 'select'
  | 'close'
  | 'enable'
  | 'idle'
  | 'logout'
  /** May leave what is not tracked. */
  | 'unknown';

/** A row of the table. */
export interface Row {
  readonly kind: Kind;
  /** Its answer is kept until its tagged reply, so that no part of it is told twice. */
  readonly held?: true;
  /** It changes something over there: the old session must be over before it is given again. */
  readonly effect?: true;
  /** Names messages by number: no EXPUNGE may be told meanwhile. */
  readonly numbers?: true;
}

const READ: Row = { kind: 'read', held: true };
const EXTENSIONS = 'GETQUOTA GETQUOTAROOT GETACL MYRIGHTS LISTRIGHTS GETMETADATA GETANNOTATION XLIST';
const READS = `CAPABILITY ID NAMESPACE LIST LSUB STATUS ${EXTENSIONS}`.split(' ');
const SETS = 'SUBSCRIBE UNSUBSCRIBE SETACL DELETEACL SETQUOTA SETMETADATA SETANNOTATION'.split(' ');
const SEARCH: Row = { kind: 'search', held: true, numbers: true };

const ROWS: ReadonlyMap<string, Row> = new Map<string, Row>([
  ...READS.map((name): [string, Row] => [name, READ]),
  ...SETS.map((name): [string, Row] => [name, { kind: 'set', effect: true }]),
  ['NOOP', { kind: 'read' }],
  ['CHECK', { kind: 'read' }],
  ['FETCH', { kind: 'fetch', numbers: true }],
  ['UID FETCH', { kind: 'fetch' }],
  ['SEARCH', SEARCH],
  ['SORT', SEARCH],
  ['THREAD', SEARCH],
  ['UID SEARCH', { kind: 'search', held: true }],
  ['UID SORT', { kind: 'search', held: true }],
  ['UID THREAD', { kind: 'search', held: true }],
  ['STORE', { kind: 'store', effect: true, numbers: true }],
  ['UID STORE', { kind: 'store', effect: true }],
  ['EXPUNGE', { kind: 'expunge', effect: true }],
  ['UID EXPUNGE', { kind: 'expunge', effect: true }],
  ['CREATE', { kind: 'folder', effect: true }],
  ['DELETE', { kind: 'folder', effect: true }],
  ['RENAME', { kind: 'folder', effect: true }],
  ['APPEND', { kind: 'append', effect: true }],
  ['COPY', { kind: 'copy', effect: true, numbers: true }],
  ['UID COPY', { kind: 'copy', effect: true }],
  ['MOVE', { kind: 'move', effect: true, numbers: true }],
  ['UID MOVE', { kind: 'move', effect: true }],
  ['SELECT', { kind: 'select', held: true }],
  ['EXAMINE', { kind: 'select', held: true }],
  ['CLOSE', { kind: 'close', effect: true }],
  ['UNSELECT', { kind: 'close' }],
  ['ENABLE', { kind: 'enable', held: true }],
  ['IDLE', { kind: 'idle' }],
  ['LOGOUT', { kind: 'logout' }],
]);

const UNKNOWN: Row = { kind: 'unknown', effect: true };

/** The row of a command, by its name in upper case. */
export function rowOf(name: string): Row {
  return ROWS.get(name) ?? UNKNOWN;
}
