// Schedules: refused at the field, made, fired, paused, changed, and removed only when that is confirmed.
import assert from "node:assert/strict";
import { forgive, inspect } from "./browser.mjs";
import { complaints, heading, page, path, paths, step } from "./scene.mjs";

step("makes a schedule, and says at its field what is wrong with the pattern", async () => {
  await page.getByRole("link", { name: "Schedules", exact: true }).click();
  await heading("Schedules");
  await page.getByText("No schedules yet").waitFor();
  await inspect(page, "13a-no-schedules");
  await page.getByRole("link", { name: "New schedule" }).first().click();
  await page.getByLabel("Name", { exact: true }).fill("Orders of the week");
  await page.getByLabel("Agent", { exact: true }).selectOption({ label: "Order desk two" });
  await page.getByLabel("Input").fill('{"amount": 2500}');
  await page.getByLabel("Pattern").fill("0 9 30 2 *");
  await page.getByLabel("Time zone").selectOption("America/New_York");
  await page.getByRole("button", { name: "Create the schedule" }).click();
  await page.getByText("no such day comes").waitFor();
  forgive(complaints, "status of 422");
  await inspect(page, "13b-schedule-refused");
  await page.getByLabel("Pattern").fill("0 9 * * MON");
  await page.getByRole("button", { name: "Create the schedule" }).click();
  await heading("Orders of the week");
  await page.getByText("in America/New_York").nth(4).waitFor();
  paths.schedule = path();
  await inspect(page, "13c-schedule");
});

step("fires a schedule now, pauses and resumes it, and changes it", async () => {
  await page.getByRole("button", { name: "Fire now" }).click();
  await page.getByText("given to the agent").waitFor();
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByText("None while it is paused.").waitFor();
  await page.getByRole("button", { name: "Resume" }).click();
  await page.getByText("in America/New_York").nth(4).waitFor();
  await page.getByRole("link", { name: "Edit" }).click();
  await heading("Edit Orders of the week");
  await page.getByLabel("Name", { exact: true }).fill("Orders");
  await page.getByRole("button", { name: "Save" }).click();
  await heading("Orders");
});

step("makes a schedule for a moment, lists it, and removes it when that is confirmed", async () => {
  await page.getByRole("link", { name: "Schedules", exact: true }).click();
  await page.getByRole("link", { name: "New schedule" }).click();
  await page.getByLabel("Name", { exact: true }).fill("One order");
  await page.getByLabel("Agent", { exact: true }).selectOption({ label: "Order desk two" });
  await page.getByText("Once", { exact: true }).click();
  await page.getByLabel("Day and time").fill("2035-05-06T07:08");
  await inspect(page, "13d-schedule-once");
  await page.getByRole("button", { name: "Create the schedule" }).click();
  await heading("One order");
  await page.getByRole("link", { name: "Schedules", exact: true }).click();
  await page.getByRole("link", { name: "One order" }).waitFor();
  assert.equal(await page.locator("[data-schedule='active']").count(), 2);
  await inspect(page, "13e-schedules");
  await page.getByRole("link", { name: "One order" }).click();
  await page.getByRole("button", { name: "Remove" }).click();
  await page.getByRole("button", { name: "Remove the schedule" }).click();
  await heading("Schedules");
  await page.getByRole("link", { name: "Orders", exact: true }).waitFor();
  await page.getByRole("link", { name: "One order" }).waitFor({ state: "detached" });
});
