/** What a far session is asked, and what it answers: an answer belongs to the question beside it. */

/** A command without its tag. */
export type Question = string;

/** What a question was answered: its tagged line, and the whole responses to all questions asked with it. */
export interface Answer {
  readonly status: string;
  readonly line: string;
  readonly responses: readonly Buffer[];
}
