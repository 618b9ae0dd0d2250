// Reads a series of numbers out of what people paste or load: lines, lists, JSON arrays and CSV files.

/** The contract's bounds for the values of an insight task. */
export const VALUES_MIN = 8;
export const VALUES_MAX = 100_000;
/** Beyond this the server refuses a value: no measured series comes near it. */
const MAGNITUDE_MAX = 1e15;
/** Enough of a wrong word to recognise it. */
const QUOTED_CHARACTERS_MAX = 24;

export type Value = number | null;
export type Reading = { ok: true; values: Value[]; column?: string } | { ok: false; words: string };

/**
 * Numbers parted by commas, semicolons, spaces or lines; "null", "NA" or nothing between two commas is a missing value.
 * A line break after a comma parts only once, and a JSON array's brackets are passed over.
 */
export function parseSeries(text: string): Reading {
  const bare = text.trim().replace(/^\[([\s\S]*)\]$/, "$1").trim();
  if (bare === "") return { ok: false, words: "Paste numbers, or load a CSV file." };
  const values: Value[] = [];
  for (const word of words(bare)) {
    const value = parseValue(word);
    if (value === undefined) return { ok: false, words: `Value ${values.length + 1} is not a number: “${quoted(word)}”.` };
    values.push(value);
  }
  return checked(values);
}

/** The last column that holds numbers; a first row of words is its heading, and other empty fields are missing values. */
export function parseCsv(text: string): Reading {
  const rows = text.replace(/^\uFEFF/, "").split(/\r?\n/).filter((row) => row.trim() !== "");
  const separator = bestSeparator(rows[0] ?? "");
  const table = rows.map((row) => splitRow(row, separator));
  const width = Math.max(0, ...table.map((row) => row.length));
  for (let column = width - 1; column >= 0; column -= 1) {
    const reading = readColumn(table, column);
    if (reading !== undefined) return reading;
  }
  return { ok: false, words: "No column of this file holds only numbers." };
}

export function checkSeason(text: string, valueCount: number): string | null {
  if (text.trim() === "") return null;
  const season = Number(text);
  const max = Math.floor(valueCount / 2);
  if (!Number.isInteger(season)) return "Write a whole number.";
  return season >= 2 && (valueCount === 0 || season <= max) ? null : `Between 2 and half the series${valueCount > 0 ? ` (${max})` : ""}.`;
}

function words(text: string): string[] {
  // A separator with the white space around it parts once; white space alone parts too.
  const parts = text.split(/[^\S\n]*[,;][^\S\n]*\n?[^\S\n]*|\s+/);
  if (parts.at(-1) === "") parts.pop();
  return parts;
}

/** undefined: this is no value at all. */
function parseValue(word: string): Value | undefined {
  const bare = word.trim().replace(/^"(.*)"$/, "$1").trim();
  if (bare === "" || /^(null|na|nan|n\/a|-)$/i.test(bare)) return null;
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(bare)) return undefined;
  const value = Number(bare);
  return Number.isFinite(value) ? value : undefined;
}

function checked(values: Value[], column?: string): Reading {
  if (values.length < VALUES_MIN) return { ok: false, words: `At least ${VALUES_MIN} values are needed; there ${values.length === 1 ? "is 1" : `are ${values.length}`}.` };
  if (values.length > VALUES_MAX) return { ok: false, words: `At most ${VALUES_MAX.toLocaleString("en")} values; there are ${values.length.toLocaleString("en")}.` };
  if (values.every((value) => value === null)) return { ok: false, words: "Every value is missing." };
  const huge = values.findIndex((value) => value !== null && Math.abs(value) > MAGNITUDE_MAX);
  if (huge >= 0) return { ok: false, words: `Value ${huge + 1} is too large: at most ${MAGNITUDE_MAX} in either direction.` };
  return column === undefined ? { ok: true, values } : { ok: true, values, column };
}

function bestSeparator(row: string): string {
  const counts = [",", ";", "\t"].map((separator) => ({ separator, count: row.split(separator).length }));
  return counts.reduce((best, next) => (next.count > best.count ? next : best)).separator;
}

/** Splits at separators outside double quotes; a doubled quote stands for one. */
function splitRow(row: string, separator: string): string[] {
  const fields: string[] = [];
  let field = "";
  let inQuotes = false;
  for (const character of row) {
    if (character === '"') inQuotes = !inQuotes;
    else if (character === separator && !inQuotes) {
      fields.push(field);
      field = "";
    } else field += character;
  }
  return [...fields, field];
}

/** undefined: this column holds words, or nothing. */
function readColumn(table: string[][], column: number): Reading | undefined {
  const cells = table.map((row) => row[column] ?? "");
  const heading = parseValue(cells[0] ?? "") === undefined ? cells[0] : undefined;
  const values: Value[] = [];
  for (const cell of heading === undefined ? cells : cells.slice(1)) {
    const value = parseValue(cell);
    if (value === undefined) return undefined;
    values.push(value);
  }
  if (!values.some((value) => value !== null)) return undefined;
  return checked(values, heading?.trim() ?? `column ${column + 1}`);
}

function quoted(word: string): string {
  return word.length > QUOTED_CHARACTERS_MAX ? `${word.slice(0, QUOTED_CHARACTERS_MAX)}…` : word;
}
