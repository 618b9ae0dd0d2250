// An agent's configuration as its kind's form edits it. A kind without a form of its own is edited as JSON.
import { isRecord } from "./problem";
import { buildRules, draftRules, newRule, type Built, type RuleDraft } from "./rules";
import { checkOptionalNumber, checkUrl, parseJson } from "./validate";

export interface InsightDraft {
  form: "insight";
  season: string;
  /** In percent, as people say it; the API takes a fraction. */
  levelPercent: string;
  horizon: string;
}
export interface RulesDraft {
  form: "rules";
  mode: "form" | "json";
  rules: RuleDraft[];
  text: string;
}
export interface JsonDraft {
  form: "json";
  text: string;
}
/** A kind without anything to configure. */
export interface NoDraft {
  form: "none";
}
export type WebhookMode = "sync" | "callback";
export interface WebhookDraft {
  form: "webhook";
  url: string;
  /** Empty: calls are not signed. */
  secretName: string;
  mode: WebhookMode;
}
export type ConfigDraft = InsightDraft | RulesDraft | WebhookDraft | JsonDraft | NoDraft;

/** The contract's bounds: a forecast of more steps than this says nothing. */
export const HORIZON = { min: 1, max: 1000, whole: true };
/** A season needs two full turns in the series, and a series has at most 100,000 values. */
export const SEASON = { min: 2, max: 50_000, whole: true };
/** The server's bounds of a level, in percent. */
export const LEVEL_PERCENT = { min: 1, max: 99.9 };

export function draftOf(kind: string, config: unknown): ConfigDraft {
  const text = JSON.stringify(config ?? {}, null, 2);
  if (kind === "insight") {
    const known = isRecord(config) ? config : {};
    return { form: "insight", season: numberText(known.season), levelPercent: percentText(known.level), horizon: numberText(known.horizon) };
  }
  if (kind === "worker") return { form: "none" };
  if (kind === "webhook") return draftWebhook(config) ?? { form: "json", text };
  if (kind !== "rules") return { form: "json", text };
  const rules = isRecord(config) ? draftRules(config) : [newRule()];
  return { form: "rules", mode: rules === null ? "json" : "form", rules: rules ?? [], text };
}

export function build(draft: ConfigDraft): Built {
  if (draft.form === "none") return { value: {}, errors: {}, fields: [] };
  if (draft.form === "insight") return buildInsight(draft);
  if (draft.form === "webhook") return buildWebhook(draft);
  if (draft.form === "rules" && draft.mode === "form") return buildRules(draft.rules);
  const parsed = parseJson(draft.text);
  return parsed.ok ? { value: parsed.value, errors: {}, fields: [""] } : { value: null, errors: { "": parsed.words }, fields: [""] };
}

/** Shows the same rules the other way; words when JSON cannot be shown as a form. */
export function switchMode(draft: RulesDraft): { draft: RulesDraft } | { words: string } {
  if (draft.mode === "form") {
    return { draft: { ...draft, mode: "json", text: JSON.stringify(buildRules(draft.rules).value, null, 2) } };
  }
  const parsed = parseJson(draft.text);
  if (!parsed.ok) return { words: parsed.words };
  const rules = draftRules(parsed.value);
  if (rules === null) return { words: "This JSON holds something the form has no field for; it can only be edited here." };
  return { draft: { ...draft, mode: "form", rules } };
}

/** Optional settings of an insight agent or task: an empty text leaves the value out. */
export function insightSettings(draft: Omit<InsightDraft, "form">): Record<string, number> {
  const settings: Record<string, number> = {};
  if (draft.season.trim() !== "") settings.season = Number(draft.season);
  if (draft.levelPercent.trim() !== "") settings.level = fraction(Number(draft.levelPercent));
  if (draft.horizon.trim() !== "") settings.horizon = Number(draft.horizon);
  return settings;
}

function buildInsight(draft: InsightDraft): Built {
  const checks = {
    "/season": checkOptionalNumber(draft.season, SEASON),
    "/level": checkOptionalNumber(draft.levelPercent, LEVEL_PERCENT),
    "/horizon": checkOptionalNumber(draft.horizon, HORIZON),
  };
  const errors = Object.fromEntries(Object.entries(checks).filter((entry): entry is [string, string] => entry[1] !== null));
  return { value: insightSettings(draft), errors, fields: Object.keys(checks) };
}

/** null when the configuration holds something that the form has no field for. */
function draftWebhook(config: unknown): WebhookDraft | null {
  const { url = "", secret_name = "", mode = "sync", ...more } = isRecord(config) ? config : {};
  if (typeof url !== "string" || typeof (secret_name ?? "") !== "string" || (mode !== "sync" && mode !== "callback")) return null;
  return Object.keys(more).length > 0 ? null : { form: "webhook", url, secretName: (secret_name as string | null) ?? "", mode };
}

function buildWebhook({ url, secretName, mode }: WebhookDraft): Built {
  const wrong = checkUrl(url);
  const value = { url: url.trim(), ...(secretName === "" ? {} : { secret_name: secretName }), mode };
  return { value, errors: wrong === null ? {} : { "/url": wrong }, fields: ["/url", "/secret_name", "/mode"] };
}

/** 95 percent is 0.95 exactly, not 0.9500000000000001. */
function fraction(percent: number): number {
  return Number((percent / 100).toFixed(6));
}

function percentText(level: unknown): string {
  return typeof level === "number" ? String(Number((level * 100).toFixed(4))) : "";
}

function numberText(value: unknown): string {
  return typeof value === "number" ? String(value) : "";
}
