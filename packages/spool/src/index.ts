/** The public face of the spool: opening one as its owner, or writing into one that another process may own. */
export { type Disk, nodeDisk } from './durable.ts';
export type { OnSpoolEvent, SpoolEvent } from './event.ts';
export { readJournal } from './look.ts';
export { type MaildirWriter, maildirWriter } from './maildir.ts';
export { openSpool, type SpoolOptions, spoolWriter } from './spool.ts';
export { KEEP_FREE_BYTES } from './store.ts';
