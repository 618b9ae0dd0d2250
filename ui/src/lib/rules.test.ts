import { describe, expect, it } from "vitest";
import { buildRules, draftRules, moved, newAction, newRule } from "./rules";

const CONFIG = {
  rules: [
    {
      name: "large order",
      when: "input.amount > 1000",
      then: [
        { notify: { to: "role:operator", severity: "warning", title: "Large: {{ input.amount }}", body: "b" } },
        { notify: { to: "requester", severity: "info", title: "t", body: "b" } },
        { notify: { to: "0190a7c0-0000-7000-8000-000000000000", severity: "critical", title: "t", body: "b" } },
        { task: { agent_id: "0190a7c0-0000-7000-8000-000000000001", input: { values: [1, 2] } } },
        { output: "{{ input.amount * 2 }}" },
      ],
    },
  ],
};

describe("rules", () => {
  it("come_out_of_the_form_as_they_went_in", () => {
    const drafts = draftRules(CONFIG);
    expect(drafts).not.toBeNull();
    expect(buildRules(drafts ?? [])).toMatchObject({ value: CONFIG, errors: {} });
  });

  it.each([
    ["an unknown field", { rules: [{ name: "a", when: "true", then: [], note: 1 }] }],
    ["an unknown action", { rules: [{ name: "a", when: "true", then: [{ call: {} }] }] }],
    ["two actions in one", { rules: [{ name: "a", when: "true", then: [{ output: 1, task: {} }] }] }],
    ["a missing condition", { rules: [{ name: "a", then: [] }] }],
    ["something beside the rules", { rules: [], more: true }],
    ["no list", { rules: "none" }],
  ])("with_%s_are_shown_as_JSON_only_so_that_nothing_is_lost", (_what, config) => {
    expect(draftRules(config)).toBeNull();
  });

  it("may_be_an_empty_list", () => {
    expect(buildRules(draftRules({ rules: [] }) ?? [])).toEqual({ value: { rules: [] }, errors: {}, fields: [] });
  });

  it("name_what_is_wrong_by_the_pointers_the_server_uses", () => {
    const rule = newRule();
    rule.then = [newAction("notify"), newAction("task"), newAction("output")];
    expect(Object.keys(buildRules([rule]).errors)).toEqual([
      "/rules/0/name",
      "/rules/0/when",
      "/rules/0/then/0/notify/title",
      "/rules/0/then/0/notify/body",
      "/rules/0/then/1/task/agent_id",
      "/rules/0/then/2/output",
    ]);
  });

  it("have_names_of_their_own", () => {
    const twice = draftRules({ rules: [{ name: "a", when: "true", then: [] }, { name: "a", when: "true", then: [] }] });
    expect(buildRules(twice ?? []).errors).toEqual({ "/rules/1/name": "Another rule has this name." });
  });

  it("move_without_losing_any", () => {
    expect(moved(["a", "b", "c"], 0, 2)).toEqual(["b", "c", "a"]);
    expect(moved(["a", "b", "c"], 2, 1)).toEqual(["a", "c", "b"]);
  });

  it("keep_a_key_of_their_own", () => {
    expect(newRule().key).not.toBe(newRule().key);
  });
});
