// What the task forms send: the input of an insight agent from its fields, any other agent's from JSON.
import { insightSettings, HORIZON, LEVEL_PERCENT, type InsightDraft } from "./config";
import { checkSeason, type Reading } from "./series";
import { checkOptionalNumber, failures, parseJson } from "./validate";

export interface BuiltInput {
  input: unknown;
  /** Messages by pointer into the request. */
  errors: Record<string, string>;
  fields: string[];
}

export function buildInsightInput(reading: Reading | null, settings: Omit<InsightDraft, "form">): BuiltInput {
  const values = reading?.ok ? reading.values : [];
  const checks = {
    "/input/values": reading === null ? "Paste numbers, or load a CSV file." : reading.ok ? null : reading.words,
    "/input/season": checkSeason(settings.season, values.length),
    "/input/level": checkOptionalNumber(settings.levelPercent, LEVEL_PERCENT),
    "/input/horizon": checkOptionalNumber(settings.horizon, HORIZON),
  };
  const errors = failures(checks);
  const input = Object.keys(errors).length > 0 ? null : { values, ...insightSettings(settings) };
  return { input, errors, fields: Object.keys(checks) };
}

export function buildJsonInput(text: string): BuiltInput {
  const parsed = parseJson(text);
  const errors: Record<string, string> = parsed.ok ? {} : { "/input": parsed.words };
  return { input: parsed.ok ? parsed.value : null, errors, fields: ["/input"] };
}
