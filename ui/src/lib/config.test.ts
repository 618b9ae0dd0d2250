import { describe, expect, it } from "vitest";
import { build, draftOf, switchMode, type RulesDraft } from "./config";

describe("an insight configuration", () => {
  it("leaves_out_what_was_left_empty", () => {
    expect(build(draftOf("insight", undefined))).toMatchObject({ value: {}, errors: {} });
  });

  it("comes_out_of_its_form_as_it_went_in", () => {
    const config = { season: 12, level: 0.95, horizon: 24 };
    expect(draftOf("insight", config)).toMatchObject({ levelPercent: "95" });
    expect(build(draftOf("insight", config)).value).toEqual(config);
    expect(build(draftOf("insight", { level: 0.999 })).value).toEqual({ level: 0.999 });
  });

  it("names_what_is_wrong_by_pointer", () => {
    const built = build({ form: "insight", season: "1", levelPercent: "100", horizon: "0" });
    expect(Object.keys(built.errors)).toEqual(["/season", "/level", "/horizon"]);
  });
});

describe("a webhook configuration", () => {
  it("comes_out_of_its_form_as_it_went_in", () => {
    const config = { url: "https://example.org/hook", secret_name: "key", mode: "callback" };
    expect(build(draftOf("webhook", config))).toEqual({ value: config, errors: {}, fields: ["/url", "/secret_name", "/mode"] });
    expect(build(draftOf("webhook", { url: "https://example.org/" })).value).toEqual({ url: "https://example.org/", mode: "sync" });
  });

  it("names_what_is_wrong_by_pointer", () => {
    for (const url of ["", "example.org", "ftp://example.org/", "https://", "https://user:password@example.org/", "javascript:alert(1)"]) {
      expect(Object.keys(build(draftOf("webhook", { url })).errors), url).toEqual(["/url"]);
    }
  });

  it("that_the_form_cannot_show_stays_JSON", () => {
    expect(draftOf("webhook", { url: "https://example.org/", more: 1 }).form).toBe("json");
    expect(draftOf("webhook", { url: 7 }).form).toBe("json");
  });
});

describe("a configuration of another kind", () => {
  it("is_edited_as_JSON", () => {
    const config = { url: "https://example.org" };
    expect(build(draftOf("llm", config))).toEqual({ value: config, errors: {}, fields: [""] });
    expect(build({ form: "json", text: "{" }).errors[""]).toContain("not JSON");
  });
});

describe("a worker", () => {
  it("has_nothing_to_configure", () => {
    expect(build(draftOf("worker", undefined))).toEqual({ value: {}, errors: {}, fields: [] });
    expect(build(draftOf("worker", {})).value).toEqual({});
  });
});

describe("rules", () => {
  it("begin_with_one_empty_rule", () => {
    expect((draftOf("rules", undefined) as RulesDraft).rules).toHaveLength(1);
  });

  it("are_the_same_as_form_and_as_JSON", () => {
    const config = { rules: [{ name: "a", when: "true", then: [{ output: 1 }] }] };
    const json = switchMode(draftOf("rules", config) as RulesDraft) as { draft: RulesDraft };
    expect(JSON.parse(json.draft.text)).toEqual(config);
    const form = switchMode(json.draft) as { draft: RulesDraft };
    expect(build(form.draft).value).toEqual(config);
  });

  it("that_the_form_cannot_show_stay_JSON_and_say_why", () => {
    const draft = draftOf("rules", { rules: [{ name: "a", when: "true", then: [], more: 1 }] }) as RulesDraft;
    expect(draft.mode).toBe("json");
    expect(switchMode(draft)).toMatchObject({ words: expect.stringContaining("only be edited here") });
    expect(switchMode({ ...draft, text: "[" })).toMatchObject({ words: expect.stringContaining("not JSON") });
  });
});
