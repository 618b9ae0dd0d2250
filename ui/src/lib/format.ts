// Times, numbers and spans in the person's own locale.

const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const MOMENT_SHORT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const NUMBER = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 5 });
const COUNT = new Intl.NumberFormat();

export function moment(iso: string, precise = false): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return iso;
  return (precise ? MOMENT : MOMENT_SHORT).format(date);
}

export function number(value: number): string {
  return NUMBER.format(value);
}

export function whole(value: number): string {
  return COUNT.format(value);
}

export function count(value: number, one: string, many: string): string {
  return `${COUNT.format(value)} ${value === 1 ? one : many}`;
}

/** "320 ms", "4.2 s", "3 min 5 s": how long something took. */
export function span(fromIso: string, toIso: string): string {
  const ms = Math.max(0, new Date(toIso).getTime() - new Date(fromIso).getTime());
  return Number.isFinite(ms) ? lasting(ms) : "";
}

export function lasting(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${number(ms / 1000)} s`;
  const minutes = Math.floor(ms / 60_000);
  const seconds = Math.round((ms % 60_000) / 1000);
  if (minutes < 60) return seconds === 0 ? `${minutes} min` : `${minutes} min ${seconds} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** The end of an id tells ids apart: those of one moment begin alike. */
export function shortId(id: string): string {
  return id.slice(-8);
}

/** A flat list of numbers, as one matches it in indented JSON. */
const FLAT_LIST = /\[\s+((?:-?[\d.]+(?:e[+-]?\d+)?|null)(?:,\s+(?:-?[\d.]+(?:e[+-]?\d+)?|null))*)\s+\]/gi;

/** Indented JSON, with lists of numbers on one line each. */
export function pretty(value: unknown): string {
  const text = JSON.stringify(value, null, 2) ?? "";
  return text.replace(FLAT_LIST, (_list, items: string) => `[${items.replace(/\s+/g, " ")}]`);
}

/** Digits that tell the values of a column apart: about this many in the largest. */
const COLUMN_DIGITS = 5;
/** Beyond this, digits behind the point are noise. */
const FRACTION_DIGITS_MAX = 6;

/** One format for a whole column, so that its points stand below each other. */
export function columnFormat(values: number[]): (value: number) => string {
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const wholeDigits = largest < 1 ? 0 : Math.floor(Math.log10(largest)) + 1;
  const allWhole = values.every(Number.isInteger);
  const digits = allWhole ? 0 : Math.min(Math.max(COLUMN_DIGITS - wholeDigits, 0), FRACTION_DIGITS_MAX);
  const format = new Intl.NumberFormat(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return (value) => format.format(value);
}
