import { describe, expect, it } from "vitest";
import { inWords, placeErrors, Problem, problemFromAnswer, readablePointer } from "./problem";

describe("field errors", () => {
  const fields = ["/name", "/config/rules/0/when", "/config/rules/0/then/0/notify/title", "/config"];

  it("stand_at_the_field_with_their_pointer", () => {
    const placed = placeErrors([{ pointer: "/config/rules/0/when", detail: "column 3: what is this" }], fields);
    expect(placed).toEqual({ at: { "/config/rules/0/when": "column 3: what is this" }, rest: [] });
  });

  it("without_a_field_of_their_own_stand_at_the_nearest_one_above_and_say_what_they_mean", () => {
    const placed = placeErrors([{ pointer: "/config/rules/4/when", detail: "is no condition" }], fields);
    expect(placed.at).toEqual({ "/config": "rules › 5 › when: is no condition" });
  });

  it("never_stand_at_a_field_that_only_begins_with_the_same_letters", () => {
    expect(placeErrors([{ pointer: "/names", detail: "x" }], fields)).toEqual({ at: {}, rest: [{ pointer: "/names", detail: "x" }] });
  });

  it("of_one_field_are_all_shown", () => {
    const errors = [
      { pointer: "/name", detail: "too long" },
      { pointer: "/name", detail: "no control characters" },
    ];
    expect(placeErrors(errors, fields).at["/name"]).toBe("too long\nno control characters");
  });

  it("of_the_whole_document_are_left_for_the_form", () => {
    expect(placeErrors([{ pointer: "", detail: "one of two" }], [...fields, ""]).rest).toHaveLength(1);
  });
});

it("a_pointer_reads_as_people_count", () => {
  expect(readablePointer("/rules/0/then/2/notify")).toBe("rules › 1 › then › 3 › notify");
  expect(readablePointer("/a~1b/c~0d")).toBe("a/b › c~d");
  expect(readablePointer("")).toBe("");
});

describe("problems", () => {
  it("are_told_by_title_and_detail", () => {
    const problem = problemFromAnswer(409, { title: "Too late", detail: "The task has ended." }, null);
    expect(inWords(problem)).toBe("Too late. The task has ended.");
  });

  it("without_a_document_still_have_words", () => {
    expect(inWords(problemFromAnswer(404, null, null))).toBe("This does not exist, or is not yours to see.");
    expect(inWords(problemFromAnswer(418, "tea", null))).toBe("The server answered 418.");
  });

  it("of_haste_say_how_long_to_wait", () => {
    expect(inWords(problemFromAnswer(429, {}, "30"))).toBe("Too many attempts. Try again in 30 seconds.");
  });

  it("pass_over_errors_of_another_shape", () => {
    const errors = [{ pointer: "/a", detail: "b" }, { pointer: 1 }, null];
    expect(problemFromAnswer(422, { errors }, null).errors).toEqual([{ pointer: "/a", detail: "b" }]);
  });

  it("come_from_anything_thrown", () => {
    expect(Problem.from(new TypeError("boom")).status).toBe(-1);
    const problem = Problem.unreachable();
    expect(Problem.from(problem)).toBe(problem);
  });
});
