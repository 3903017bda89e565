import { chmod, chown, link, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Gate, makeMaildir, makeMessage, seedMaildir, writeOwned } from '@postern/gate';

const LINE = `${'Postern '.repeat(9)}\n`;

/** Folders of the far account: INBOX, `Sync` and `Few` of small messages, `Bulk` of a megabyte each. */
export async function makeMailboxes(
  gate: Gate,
  o: { inbox: number; sync: number; few: number; bulk: number },
): Promise<void> {
  const { account, maildir } = gate;
  await seedMaildir(maildir, { count: o.inbox, account });
  for (const [name, count] of [
    ['.Sync', o.sync],
    ['.Few', o.few],
  ] as const) {
    await makeMaildir(join(maildir, name), account);
    await seedMaildir(join(maildir, name), { count, account });
  }
  const bulk = join(maildir, '.Bulk');
  await makeMaildir(bulk, account);
  const head = 'From: a@gate.test\nTo: b@gate.test\nSubject: bulk\n\n';
  const first = join(bulk, 'cur', '1700000000.M0P1.gate:2,S');
  await writeOwned(account, first, head + LINE.repeat(Math.ceil((1_000_000 - head.length) / (LINE.length + 1))));
  await chmod(first, 0o644);
  for (let index = 1; index < o.bulk; index++) {
    await link(first, join(bulk, 'cur', `1700000000.M${index}P1.gate:2,S`));
  }
}

let delivered = 0;

/** Delivers a small message to INBOX, as a delivery agent does; gives the moment. */
export async function deliver(gate: Gate): Promise<number> {
  const name = `1900000000.M${++delivered}P2.gate`;
  const temporary = join(gate.maildir, 'tmp', name);
  await writeFile(temporary, makeMessage(delivered, 2).bytes);
  await chown(temporary, gate.account.uid, gate.account.gid);
  const at = performance.now();
  await rename(temporary, join(gate.maildir, 'new', name));
  return at;
}
