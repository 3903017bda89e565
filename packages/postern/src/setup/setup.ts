/** Picks a client's lines. */
import { NotOffered, type Recipe, type Setup, type SetupFacts, type SetupPart } from './facts.ts';
import { READERS } from './readers.ts';
import { SENDERS } from './senders.ts';

/** Every client there are lines for, readers first. */
export const RECIPES: readonly Recipe[] = [...READERS, ...SENDERS];

/** What {@link setupFor} found. */
export type SetupResult =
  | { readonly type: 'setup'; readonly setup: Setup }
  | { readonly type: 'unknown' }
  /** The configuration lacks a listener; `why` says which. */
  | { readonly type: 'not-offered'; readonly why: string };

/** Other names people use. */
const ALIASES: Readonly<Record<string, string>> = {
  isync: 'mbsync',
  offlineimap3: 'offlineimap',
  getmail6: 'getmail',
  smtpd: 'opensmtpd',
  'git-send-email': 'git',
  pine: 'alpine',
  cron: 'sendmail',
  mail: 'sendmail',
  mailx: 'sendmail',
  tb: 'thunderbird',
};

/** The lines for a client, by its name in any case. */
export function setupFor(client: string, facts: SetupFacts): SetupResult {
  const name = client.toLowerCase();
  const recipe = RECIPES.find((candidate) => candidate.client === (ALIASES[name] ?? name));
  if (recipe === undefined) return { type: 'unknown' };
  try {
    const { parts, notes = [] } = recipe.make(facts);
    return { type: 'setup', setup: { client: recipe.client, title: recipe.title, parts, notes } };
  } catch (error) {
    if (error instanceof NotOffered) return { type: 'not-offered', why: error.message };
    throw error;
  }
}

/**
 * For people: each part under its heading, notes at the end as comments. Beside lines of a file, commands are comments too: the whole may be appended
 * to that file as it is.
 */
export function formatSetup(setup: Setup): string[] {
  const heading = { file: '', shell: 'run as ', dialog: '' };
  const hasFile = setup.parts.some(({ type }) => type === 'file');
  const linesOf = ({ type, lines }: SetupPart): readonly string[] =>
    type === 'shell' && hasFile ? lines.map((line) => `#   ${line}`) : lines;
  return [
    ...setup.parts.flatMap((part) => [`# ${heading[part.type]}${part.where}`, ...linesOf(part), '']),
    ...setup.notes.map((note) => `# ${note}`),
  ];
}
