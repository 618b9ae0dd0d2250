// A rules agent's configuration as its form edits it: drafts hold texts, the configuration holds JSON.
import { isRecord } from "./problem";
import type { Role, Severity } from "./types";
import { characters, checkName, checkUuid, parseJson, type Check } from "./validate";

export const ROLES: readonly Role[] = ["admin", "operator", "member", "auditor", "integrator"];
export const SEVERITIES: readonly Severity[] = ["info", "success", "warning", "critical"];

/** The server's bound for a text with values in it; what it becomes is cut to fit the inbox. */
const TEMPLATE_CHARACTERS_MAX = 16_384;

export interface NotifyDraft {
  key: number;
  type: "notify";
  audience: "requester" | "role" | "person";
  role: Role;
  person: string;
  severity: Severity;
  title: string;
  body: string;
}
export interface TaskDraft {
  key: number;
  type: "task";
  agentId: string;
  input: string;
}
export interface OutputDraft {
  key: number;
  type: "output";
  value: string;
}
export type ActionDraft = NotifyDraft | TaskDraft | OutputDraft;

export interface RuleDraft {
  key: number;
  name: string;
  when: string;
  then: ActionDraft[];
}

/** A configuration made from a draft, what is wrong with it by pointer, and the pointers that have a field of their own. */
export interface Built {
  value: unknown;
  errors: Record<string, string>;
  fields: string[];
}

let lastKey = 0;
/** Rows keep their key while they move, so that focus and half-typed text move with them. */
function nextKey(): number {
  lastKey += 1;
  return lastKey;
}

export function newRule(): RuleDraft {
  return { key: nextKey(), name: "", when: "", then: [newAction("notify")] };
}

export function newAction(type: ActionDraft["type"]): ActionDraft {
  const key = nextKey();
  if (type === "task") return { key, type, agentId: "", input: "{}" };
  if (type === "output") return { key, type, value: "" };
  return { key, type, audience: "requester", role: "operator", person: "", severity: "info", title: "", body: "" };
}

/** null: the configuration holds something that the form has no field for, so only JSON shows all of it. */
export function draftRules(config: unknown): RuleDraft[] | null {
  if (!hasOnly(config, ["rules"]) || !Array.isArray(config.rules)) return null;
  const drafts = config.rules.map(draftRule);
  return drafts.every((draft) => draft !== null) ? drafts : null;
}

export function buildRules(rules: RuleDraft[]): Built {
  const built: Built = { value: { rules: rules.map(ruleOf) }, errors: {}, fields: [] };
  const names = new Set<string>();
  for (const [index, rule] of rules.entries()) {
    const at = `/rules/${index}`;
    const duplicate = names.has(rule.name) ? "Another rule has this name." : null;
    names.add(rule.name);
    note(built, `${at}/name`, checkName(rule.name, "a name for the rule") ?? duplicate);
    note(built, `${at}/when`, rule.when.trim() === "" ? "Write a condition; true applies always." : null);
    for (const [place, action] of rule.then.entries()) checkAction(built, `${at}/then/${place}`, action);
    built.fields.push(`${at}/then`);
  }
  return built;
}

export function moved<T>(rows: T[], from: number, to: number): T[] {
  const next = [...rows];
  next.splice(to, 0, ...next.splice(from, 1));
  return next;
}

function checkAction(built: Built, at: string, action: ActionDraft): void {
  if (action.type === "notify") {
    const toPerson = action.audience === "person" ? checkUuid(action.person) : null;
    note(built, `${at}/notify/to`, toPerson);
    note(built, `${at}/notify/severity`, null);
    note(built, `${at}/notify/title`, checkTemplate(action.title, "a title"));
    note(built, `${at}/notify/body`, checkTemplate(action.body, "what the notification says"));
  } else if (action.type === "task") {
    note(built, `${at}/task/agent_id`, action.agentId === "" ? "Choose an agent." : null);
    note(built, `${at}/task/input`, jsonWords(action.input));
  } else {
    note(built, `${at}/output`, jsonWords(action.value));
  }
}

function checkTemplate(text: string, what: string): Check {
  if (text.trim() === "") return `Write ${what}.`;
  return characters(text) > TEMPLATE_CHARACTERS_MAX ? `At most ${TEMPLATE_CHARACTERS_MAX} characters.` : null;
}

function note(built: Built, pointer: string, words: string | null): void {
  built.fields.push(pointer);
  if (words !== null) built.errors[pointer] = words;
}

function jsonWords(text: string): string | null {
  const parsed = parseJson(text);
  return parsed.ok ? null : `${parsed.words} Text stands in quotes, such as "large".`;
}

function ruleOf(rule: RuleDraft): unknown {
  return { name: rule.name, when: rule.when, then: rule.then.map(actionOf) };
}

function actionOf(action: ActionDraft): unknown {
  if (action.type === "notify") {
    const to = action.audience === "requester" ? "requester" : action.audience === "role" ? `role:${action.role}` : action.person.trim();
    return { notify: { to, severity: action.severity, title: action.title, body: action.body } };
  }
  if (action.type === "task") return { task: { agent_id: action.agentId, input: valueOf(action.input) } };
  return { output: valueOf(action.value) };
}

function valueOf(text: string): unknown {
  const parsed = parseJson(text);
  return parsed.ok ? parsed.value : null;
}

function draftRule(rule: unknown): RuleDraft | null {
  if (!hasOnly(rule, ["name", "when", "then"])) return null;
  if (typeof rule.name !== "string" || typeof rule.when !== "string" || !Array.isArray(rule.then)) return null;
  const then = rule.then.map(draftAction);
  return then.every((action) => action !== null) ? { key: nextKey(), name: rule.name, when: rule.when, then } : null;
}

function draftAction(action: unknown): ActionDraft | null {
  if (!isRecord(action) || Object.keys(action).length !== 1) return null;
  if ("output" in action) return { key: nextKey(), type: "output", value: JSON.stringify(action.output, null, 2) };
  if ("notify" in action) return draftNotify(action.notify);
  const task = action.task;
  if (!hasOnly(task, ["agent_id", "input"]) || typeof task.agent_id !== "string") return null;
  return { key: nextKey(), type: "task", agentId: task.agent_id, input: JSON.stringify(task.input, null, 2) };
}

function draftNotify(notify: unknown): NotifyDraft | null {
  if (!hasOnly(notify, ["to", "severity", "title", "body"])) return null;
  const { to, title, body } = notify;
  const severity = SEVERITIES.find((known) => known === notify.severity);
  if (typeof to !== "string" || typeof title !== "string" || typeof body !== "string" || severity === undefined) return null;
  const role = ROLES.find((known) => to === `role:${known}`);
  const audience = to === "requester" ? "requester" : role === undefined ? "person" : "role";
  const person = audience === "person" ? to : "";
  return { key: nextKey(), type: "notify", audience, role: role ?? "operator", person, severity, title, body };
}

function hasOnly(value: unknown, keys: string[]): value is Record<string, unknown> {
  return isRecord(value) && Object.keys(value).every((key) => keys.includes(key));
}
