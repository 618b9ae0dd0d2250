// An agent's limits as its form edits them: seconds for people, milliseconds for the API, nothing where the default will do.
import type { Limits } from "./types";
import { checkOptionalNumber, type Range } from "./validate";

export interface LimitField {
  name: keyof Limits;
  label: string;
  /** For a list of facts, where the unit stands behind the value. */
  short: string;
  unit: string;
  hint: string;
  range: Range;
  /** The API's units in one unit of the form. */
  factor: number;
}

/** No attempt and no pause may be longer than a day. */
const DAY_S = 24 * 60 * 60;

/** The defaults named here are the server's own. */
export const LIMIT_FIELDS: readonly LimitField[] = [
  { name: "max_attempts", label: "Attempts", short: "Attempts", unit: "", hint: "Tries before a task is given up; 5 if empty.", range: { min: 1, max: 20, whole: true }, factor: 1 },
  { name: "timeout_ms", label: "Time for one attempt (s)", short: "Attempt ends after", unit: " s", hint: "60 if empty.", range: { min: 0.001, max: DAY_S }, factor: 1000 },
  { name: "backoff_initial_ms", label: "First pause before a retry (s)", short: "First pause", unit: " s", hint: "1 if empty.", range: { min: 0, max: DAY_S }, factor: 1000 },
  { name: "backoff_max_ms", label: "Longest pause before a retry (s)", short: "Longest pause", unit: " s", hint: "60 if empty.", range: { min: 0, max: DAY_S }, factor: 1000 },
  { name: "max_concurrency", label: "Tasks at the same time", short: "Tasks at once", unit: "", hint: "4 if empty.", range: { min: 1, max: 1000, whole: true }, factor: 1 },
];

export type LimitsDraft = Record<string, string>;

export function draftLimits(limits: Limits | null): LimitsDraft {
  const drafts = LIMIT_FIELDS.map(({ name, factor }) => {
    const value = limits?.[name];
    return [name, typeof value === "number" ? String(value / factor) : ""];
  });
  return Object.fromEntries(drafts);
}

export function buildLimits(draft: LimitsDraft): Limits {
  const limits: Limits = {};
  for (const { name, factor } of LIMIT_FIELDS) {
    const text = draft[name] ?? "";
    if (text.trim() !== "") limits[name] = Math.round(Number(text) * factor);
  }
  return limits;
}

export function checkLimits(draft: LimitsDraft): Record<string, string | null> {
  return Object.fromEntries(LIMIT_FIELDS.map(({ name, range }) => [`/limits/${name}`, checkOptionalNumber(draft[name] ?? "", range)]));
}
