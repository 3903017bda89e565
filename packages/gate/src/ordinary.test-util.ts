import { command, ssh } from './gate.test-util.ts';
import { readMaildir, startGate } from './index.ts';

/** A program of its own: starts a gate as whoever runs it, sends one message in, reads it back, and prints what it saw. */
await using gate = await startGate({ cacheDir: process.argv[2] ?? '', prefer: 'cache' });
using smtp = ssh(gate, 'gate', 'netcat', 'localhost', 'smtp');
await smtp.expect(/^220 .*\r\n/m);
await command(smtp, 'EHLO client.test');
await command(smtp, 'MAIL FROM:<ada@brook.test>');
await command(smtp, 'RCPT TO:<gate@gate.test>');
await command(smtp, 'DATA');
await command(smtp, 'Subject: from an ordinary user\r\n\r\nHello.\r\n.');
using imap = ssh(gate, 'gate', 'imapd');
const greeting = await imap.expect(/\r\n/);
imap.send('a SELECT INBOX', 'b IDLE');
await imap.expect(/\* 1 EXISTS/);
const [message] = await readMaildir(gate.maildir);
process.stdout.write(JSON.stringify({ uid: gate.account.uid, greeting, message: message?.toString() }));
