import { expect, it } from "vitest";
import { moment } from "./format";
import { reasonWords, waitingWords } from "./waiting";

it("shows_people_the_sentences_and_not_the_word_for_programs", () => {
  expect(reasonWords("limit_reached: The agent runs 1 of at most 1 tasks at once. It is the next in line.")).toBe(
    "The agent runs 1 of at most 1 tasks at once. It is the next in line.",
  );
  expect(reasonWords("Because: of this")).toBe("Because: of this");
});

it("writes_a_time_as_the_person_reads_it", () => {
  const time = "2026-11-24T03:04:05.678Z";
  expect(reasonWords(`backoff: Attempt 2 is made at ${time} or soon after.`)).toBe(`Attempt 2 is made at ${moment(time, true)} or soon after.`);
});

it("says_that_a_task_waits_though_no_reason_is_known", () => {
  expect(waitingWords({ status: "retrying", waiting_reason: null })).toBe("Waiting…");
  expect(waitingWords({ status: "running", waiting_reason: null })).toBe("At work…");
  expect(waitingWords({ status: "failed", waiting_reason: null })).toBeNull();
});
