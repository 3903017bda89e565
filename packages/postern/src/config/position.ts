/** TOML with the line of every key. */
import { type AST, getStaticTOMLValue, parseTOML } from 'toml-eslint-parser';

/** Where in a configuration a value is: keys and array indexes from the top. */
export type KeyPath = readonly (string | number)[];

/** A TOML file as plain values that remember their lines. */
export interface TomlFile {
  readonly value: Record<string, unknown>;
  /** Line (from 1) of the key, or of the nearest table around it; 1 when nothing of it is written. */
  lineOf(path: KeyPath): number;
}

/** A fault of TOML itself. */
export interface TomlFault {
  readonly line: number;
  readonly message: string;
}

/** Reads TOML 1.0. */
export function readToml(text: string): { type: 'read'; file: TomlFile } | { type: 'fault'; fault: TomlFault } {
  let program: AST.TOMLProgram;
  try {
    program = parseTOML(text.replace(/^\uFEFF/, ''), { tomlVersion: '1.0' });
  } catch (error) {
    if (!(error instanceof SyntaxError) || !('lineNumber' in error)) throw error;
    return { type: 'fault', fault: { line: Number(error.lineNumber), message: error.message } };
  }
  const lines = new Map<string, number>();
  for (const node of program.body[0].body) note(node, [], lines);
  const value = getStaticTOMLValue(program) as Record<string, unknown>;
  return { type: 'read', file: { value, lineOf: (path) => nearest(path, lines) } };
}

function note(node: AST.TOMLTable | AST.TOMLKeyValue, base: KeyPath, lines: Map<string, number>): void {
  if (node.type === 'TOMLTable') {
    const path = node.resolvedKey;
    for (let depth = 1; depth <= path.length; depth += 1) first(lines, path.slice(0, depth), node.loc.start.line);
    for (const child of node.body) note(child, path, lines);
    return;
  }
  const keys = node.key.keys.map((key) => (key.type === 'TOMLBare' ? key.name : key.value));
  for (let depth = 1; depth <= keys.length; depth += 1) {
    first(lines, [...base, ...keys.slice(0, depth)], node.loc.start.line);
  }
  noteContent(node.value, [...base, ...keys], lines);
}

function noteContent(node: AST.TOMLContentNode, path: KeyPath, lines: Map<string, number>): void {
  if (node.type === 'TOMLInlineTable') for (const child of node.body) note(child, path, lines);
  if (node.type !== 'TOMLArray') return;
  for (const [index, element] of node.elements.entries()) {
    first(lines, [...path, index], element.loc.start.line);
    noteContent(element, [...path, index], lines);
  }
}

function first(lines: Map<string, number>, path: KeyPath, line: number): void {
  const key = JSON.stringify(path);
  if (!lines.has(key)) lines.set(key, line);
}

function nearest(path: KeyPath, lines: Map<string, number>): number {
  for (let depth = path.length; depth > 0; depth -= 1) {
    const line = lines.get(JSON.stringify(path.slice(0, depth)));
    if (line !== undefined) return line;
  }
  return 1;
}

/** A key as TOML would write it: `host.gate.tls`, `imap[0].listen[1]`, `host."my gate"`. */
export function formatKey(path: KeyPath): string {
  return path
    .map((part) => {
      if (typeof part === 'number') return `[${part}]`;
      return `.${/^[A-Za-z0-9_-]+$/.test(part) ? part : JSON.stringify(part)}`;
    })
    .join('')
    .replace(/^\./, '');
}
