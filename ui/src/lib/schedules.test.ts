import { describe, expect, it } from "vitest";
import { buildSchedule, formOf, inZone, localOf, zones, type ScheduleForm } from "./schedules";

const FORM: ScheduleForm = { ...formOf(null, "a1"), name: " Daily ", input: '{"n": 1}' };

describe("the form of a schedule", () => {
  it("sends a pattern or a moment, never both", () => {
    const { draft, errors } = buildSchedule({ ...FORM, cron: " 0 9 * * * ", timezone: "Europe/Zurich" }, true);
    expect(errors).toEqual({});
    expect(draft).toEqual({ agent_id: "a1", name: "Daily", input: { n: 1 }, cron: "0 9 * * *", timezone: "Europe/Zurich", jitter_s: 0, overlap: "skip", missed: "one" });
    const once = buildSchedule({ ...FORM, repeats: false, at: "2030-05-06T07:08" }, true).draft;
    expect(once.cron).toBeUndefined();
    expect(once.at).toBe(new Date("2030-05-06T07:08").toISOString());
  });

  it("names what is wrong at its field before anything is sent", () => {
    const wrong = { ...FORM, name: "", agentId: "", cron: "* * *", jitter: "-1", input: "{" };
    expect(Object.keys(buildSchedule(wrong, true).errors)).toEqual(["/name", "/agent_id", "/cron", "/jitter_s", "/input"]);
    expect(Object.keys(buildSchedule({ ...FORM, repeats: false, at: "" }, true).errors)).toEqual(["/at"]);
  });

  it("leaves the owner's words out for everybody else", () => {
    const { draft, errors } = buildSchedule({ ...FORM, name: "", input: "" }, false);
    expect([errors, draft.name, draft.input]).toEqual([{}, undefined, undefined]);
  });

  it("shows a moment as the browser's field takes it", () => {
    expect(new Date(localOf("2030-05-06T07:08:00.000Z")).toISOString()).toBe("2030-05-06T07:08:00.000Z");
  });
});

describe("zones", () => {
  it("hold those that are wanted, once each and in order", () => {
    const known = zones("Mars/Olympus");
    expect(known).toContain("UTC");
    expect(known).toContain("Mars/Olympus");
    expect(known).toEqual([...new Set(known)].sort());
  });

  it("show a moment on their own clock, and as it is where the zone is unknown", () => {
    expect(inZone("2030-01-01T12:00:00Z", "Asia/Tokyo")).not.toBe(inZone("2030-01-01T12:00:00Z", "UTC"));
    expect(inZone("2030-01-01T12:00:00Z", "Mars/Olympus")).toBe("2030-01-01T12:00:00Z");
  });
});
