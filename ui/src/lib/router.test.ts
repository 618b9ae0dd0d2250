import { describe, expect, it } from "vitest";
import { match, safeNext } from "./router";

const ROUTES = [
  { pattern: "/", name: "home" },
  { pattern: "/agents/new", name: "new" },
  { pattern: "/agents/:id", name: "agent" },
  { pattern: "/agents/:id/edit", name: "edit" },
] as const;

describe("a path", () => {
  it("matches_the_first_pattern_that_fits", () => {
    expect(match(ROUTES, "/agents/new")).toEqual({ name: "new", params: {} });
    expect(match(ROUTES, "/agents/17")).toEqual({ name: "agent", params: { id: "17" } });
    expect(match(ROUTES, "/agents/17/edit")).toEqual({ name: "edit", params: { id: "17" } });
  });

  it("may_end_with_a_slash", () => {
    expect(match(ROUTES, "/")).toMatchObject({ name: "home" });
    expect(match(ROUTES, "/agents/17/")).toMatchObject({ name: "agent" });
  });

  it("that_no_pattern_knows_matches_nothing", () => {
    expect(match(ROUTES, "/agents")).toBeNull();
    expect(match(ROUTES, "/agents/17/edit/more")).toBeNull();
  });

  it("has_its_parameters_decoded_even_when_badly_encoded", () => {
    expect(match(ROUTES, "/agents/a%20b")?.params).toEqual({ id: "a b" });
    expect(match(ROUTES, "/agents/%E0%A4%A")?.params).toEqual({ id: "%E0%A4%A" });
  });
});

describe("signing in leads back", () => {
  it("to_a_path_of_the_console", () => {
    expect(safeNext("/tasks?status=failed")).toBe("/tasks?status=failed");
  });

  it.each([null, "", "https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb", "/sign-in?next=/", "/setup?token=x"])(
    "never_to_%s",
    (next) => expect(safeNext(next)).toBe("/"),
  );
});
