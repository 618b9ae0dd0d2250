import { describe, expect, it } from "vitest";
import { withQuery } from "./calls";
import { columnFormat, pretty, span } from "./format";
import { buildLimits, checkLimits, draftLimits } from "./limits";
import { Repeatable } from "./repeatable";
import { buildInsightInput, buildJsonInput } from "./taskInput";

const NOTHING = { season: "", levelPercent: "", horizon: "" };

describe("a task's input", () => {
  it("is_the_series_with_the_settings_that_were_given", () => {
    const built = buildInsightInput({ ok: true, values: [1, 2, 3, null, 5, 6, 7, 8] }, { ...NOTHING, season: "4", horizon: "3" });
    expect(built).toMatchObject({ input: { values: [1, 2, 3, null, 5, 6, 7, 8], season: 4, horizon: 3 }, errors: {} });
  });

  it("names_what_is_missing_at_its_field", () => {
    expect(buildInsightInput(null, NOTHING).errors).toHaveProperty("/input/values");
    expect(buildInsightInput({ ok: true, values: Array(8).fill(1) }, { ...NOTHING, season: "5" }).errors).toHaveProperty("/input/season");
    expect(buildJsonInput("{").errors).toHaveProperty("/input");
    expect(buildJsonInput("[1]").input).toEqual([1]);
  });
});

describe("limits", () => {
  it("are_seconds_for_people_and_milliseconds_for_the_API", () => {
    expect(draftLimits({ timeout_ms: 1500, max_attempts: 3 })).toMatchObject({ timeout_ms: "1.5", max_attempts: "3", max_concurrency: "" });
    expect(buildLimits({ ...draftLimits(null), timeout_ms: "1.5" })).toEqual({ timeout_ms: 1500 });
  });

  it("are_checked_at_their_pointers", () => {
    expect(checkLimits({ max_attempts: "21" })["/limits/max_attempts"]).toBe("Between 1 and 20.");
  });
});

describe("an idempotency key", () => {
  it("stays_while_the_body_stays_until_it_was_sent", () => {
    const repeatable = new Repeatable();
    const first = repeatable.keyFor({ a: 1 });
    expect(repeatable.keyFor({ a: 1 })).toBe(first);
    const second = repeatable.keyFor({ a: 2 });
    expect(second).not.toBe(first);
    repeatable.done();
    expect(repeatable.keyFor({ a: 2 })).not.toBe(second);
  });
});

it("a_query_leaves_out_what_is_not_asked", () => {
  expect(withQuery("/tasks", { status: undefined, cursor: null, limit: 50, agent_id: "" })).toBe("/tasks?limit=50");
  expect(withQuery("/tasks", {})).toBe("/tasks");
});

it("lists_of_numbers_stand_on_one_line", () => {
  expect(pretty({ values: [1, null, -2.5e-7], other: ["a"] })).toBe('{\n  "values": [1, null, -2.5e-7],\n  "other": [\n    "a"\n  ]\n}');
  expect(pretty(Array(100_000).fill(123.25))).not.toContain("\n");
});

it("a_column_has_as_many_digits_as_its_largest_value_needs", () => {
  const format = columnFormat([458.71234, -3.2]);
  const twoDigits = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2 });
  expect([format(458.71234), format(-3.2)]).toEqual([twoDigits.format(458.71), twoDigits.format(-3.2)]);
  expect(columnFormat([1, 20])(20)).toBe("20");
});

it("a_span_is_told_in_the_units_people_use", () => {
  const from = "2026-11-22T12:00:00.000Z";
  expect(span(from, "2026-11-22T12:00:00.320Z")).toBe("320 ms");
  expect(span(from, "2026-11-22T12:00:04.200Z")).toBe(`${new Intl.NumberFormat().format(4.2)} s`);
  expect(span(from, "2026-11-22T12:03:05.000Z")).toBe("3 min 5 s");
  expect(span(from, "2026-11-22T14:10:00.000Z")).toBe("2 h 10 min");
});
