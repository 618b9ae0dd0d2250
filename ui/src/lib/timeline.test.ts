import { expect, it } from "vitest";
import { TASK_EVENTS } from "./live";
import { actorWords, tell } from "./timeline";
import type { LogEvent } from "./types";

function event(type: string, facts: Record<string, unknown> = {}, personal: Record<string, unknown> | null = null): LogEvent {
  return { id: "1", type, subject: "task/1", time: "2026-11-22T12:00:00.000Z", position: "1", sequence: "1", data: { facts, personal } };
}

it("every_event_of_a_task_is_told_in_words_of_its_own", () => {
  const words = TASK_EVENTS.map((type) => tell(event(type)).words);
  expect(new Set(words).size).toBe(TASK_EVENTS.length);
  expect(words).not.toContain("");
  expect(words.at(-1)).toBe("Given another chance");
});

it("a_start_tells_its_attempt", () => {
  expect(tell(event("marvin.task.started.v1", { attempt: 2 })).more).toBe("attempt 2");
});

it("a_failure_tells_its_message_or_else_its_code", () => {
  expect(tell(event("marvin.task.failed.v1", { code: "rule_failed" }, { message: "no input.amount" })).more).toBe("no input.amount");
  expect(tell(event("marvin.task.failed.v1", { code: "rule_failed" })).more).toBe("rule failed");
});

it("an_event_of_a_later_version_is_still_told", () => {
  expect(tell(event("marvin.task.put_on_hold.v1"))).toMatchObject({ words: "Put on hold", tone: "neutral" });
});

it("an_actor_is_told_from_oneself", () => {
  expect(actorWords("user/7", "7")).toBe("by you");
  expect(actorWords("user/77", "7")).toBe("by someone else");
  expect(actorWords("agent/7", "7")).toBe("by an agent");
  expect(actorWords("system", "7")).toBe("");
});
