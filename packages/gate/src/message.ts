/** Test messages are made from a number, the same each time. */
import { seededRandom } from '@postern/core';

/** A made-up message. */
export interface SeedMessage {
  /** Header and body with CRLF, as IMAP's `BODY[]` and SMTP's DATA (before dot-stuffing) carry it. */
  bytes: Buffer;
  messageId: string;
  subject: string;
  from: string;
  date: Date;
  /** Maildir flag letters: `S` seen, `R` answered, `F` flagged. */
  flags: string;
}

const PEOPLE = [
  ['Ada Brook', 'ada@brook.test'],
  ['Jürgen Weiß', 'juergen@weiss.test'],
  ['Chloé Martin', 'chloe@martin.test'],
  ['Rosa Lindqvist', 'rosa@lindqvist.test'],
  ['田中 葵', 'aoi@tanaka.test'],
  ['Sam Okafor', 'sam@okafor.test'],
] as const;
const TOPICS = [
  'Minutes of Tuesday',
  'Übergabe am Montag',
  'The pump in the cellar',
  'Re-reading chapter three',
  'Train tickets to Göteborg',
  'Invoice for October',
  'Photos from the lake',
  'A small question about the lock',
] as const;
const SENTENCES = [
  'The key hangs where it always hung.',
  'Could you look at this before Friday?',
  'Wir haben das Tor am Abend geschlossen.',
  'I measured it twice and got the same figure.',
  'Il reste deux places dans le train du matin.',
  'Nothing urgent, it can wait until you are back.',
  '.A line that begins with a dot, on purpose.',
  'The neighbours were kind enough to take the parcel in.',
] as const;
/** 2024-03-04T08:00:00Z: messages lie some hours apart from there on. */
const EPOCH_MS = Date.UTC(2024, 2, 4, 8);
const HOUR_MS = 3_600_000;

/** Message number `index` of a seed: sender, subject, thread, text and attachment depend on both and on nothing else. */
export function makeMessage(index: number, seed = 1): SeedMessage {
  const random = seededRandom(seed * 7919 + index);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  const [name, address] = pick(PEOPLE);
  // Every fourth message answers the one before it.
  const answers = index % 4 === 3;
  const topic = answers ? topicOf(index - 1, seed) : topicOf(index, seed);
  const subject = answers ? `Re: ${topic}` : topic;
  const messageId = idOf(index, seed);
  const date = new Date(EPOCH_MS + index * 5 * HOUR_MS + Math.floor(random() * HOUR_MS));
  const text = Array.from({ length: 2 + Math.floor(random() * 8) }, () => pick(SENTENCES)).join('\r\n');
  const header = [
    `From: ${encoded(name)} <${address}>`,
    'To: Gate <gate@gate.test>',
    `Subject: ${encoded(subject)}`,
    `Date: ${date.toUTCString().replace('GMT', '+0000')}`,
    `Message-ID: ${messageId}`,
    ...(answers ? [`In-Reply-To: ${idOf(index - 1, seed)}`, `References: ${idOf(index - 1, seed)}`] : []),
    'MIME-Version: 1.0',
  ];
  const body = index % 5 === 4 ? withAttachment(text, random) : plain(text);
  const bytes = Buffer.from([...header, body].join('\r\n'), 'utf8');
  const flags = `${random() < 0.1 ? 'F' : ''}${random() < 0.1 ? 'R' : ''}${random() < 0.7 ? 'S' : ''}`;
  return { bytes, messageId, subject, from: address, date, flags };
}

function topicOf(index: number, seed: number): string {
  return `${TOPICS[(index * 3 + seed) % TOPICS.length]} (${index})`;
}

function idOf(index: number, seed: number): string {
  return `<${seed}.${index}@gate.test>`;
}

/** RFC 2047 encoded-words where the text is not ASCII, each short enough for one line. */
function encoded(text: string): string {
  if (/^[\u0020-\u007e]*$/.test(text)) return text;
  const words: string[] = [];
  for (let rest = [...text]; rest.length > 0; rest = rest.slice(10)) {
    words.push(`=?utf-8?B?${Buffer.from(rest.slice(0, 10).join('')).toString('base64')}?=`);
  }
  return words.join('\r\n ');
}

function plain(text: string): string {
  return `Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n${text}\r\n`;
}

function withAttachment(text: string, random: () => number): string {
  const octets = Buffer.from(Array.from({ length: 600 }, () => Math.floor(random() * 256)));
  const lines = octets.toString('base64').match(/.{1,76}/g) ?? [];
  return [
    'Content-Type: multipart/mixed; boundary="=_gate"',
    '',
    '--=_gate',
    plain(text),
    '--=_gate',
    'Content-Type: application/octet-stream; name="plan.bin"',
    'Content-Disposition: attachment; filename="plan.bin"',
    'Content-Transfer-Encoding: base64',
    '',
    ...lines,
    '--=_gate--',
    '',
  ].join('\r\n');
}
