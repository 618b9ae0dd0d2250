// Projections: how they stand, one rebuilt for good, and what is shown of a rebuild and of one that stopped.
import assert from "node:assert/strict";
import { DESKTOP, forgive, inspect, PHONE } from "./browser.mjs";
import { complaints, heading, page, server, step } from "./scene.mjs";

const LIST = "**/api/v1/projections";
const row = (name) => page.locator(`[data-projection='${name}']`);

step("shows every projection live, and rebuilds one", async () => {
  await page.getByRole("link", { name: "Projections" }).click();
  await heading("Projections");
  await page.locator("[data-state='live']").nth(5).waitFor();
  assert.equal(await page.locator("[data-projection]").count(), 6);
  await row("tasks").getByText("up to date").waitFor();
  await inspect(page, "14a-projections");
  await page.getByRole("button", { name: "Rebuild tasks" }).click();
  await row("tasks").locator("[data-progress]").waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Rebuild tasks" }).waitFor();
  await page.goto(`${server.origin}/tasks`);
  await page.getByRole("link", { name: /Passenger forecast/ }).waitFor();
});

/** States that a small log is through with before anybody sees them. */
const SEEN_SELDOM = [
  { name: "agents", version: 2, serving_version: 1, position: 1_204_331, lag: 12_400, state: "building", holder: null, stopped: null,
    rebuild: { position: 816_000, target: 1_216_731, events_per_s: 48_211.4, seconds_left: 9 } },
  { name: "tasks", version: 2, serving_version: 2, position: 1_216_731, lag: 0, state: "live", holder: "0190a7c0-0000-7000-8000-000000000001", stopped: null,
    rebuild: { position: 1_100_000, target: 1_216_731, events_per_s: null, seconds_left: null } },
  { name: "steps", version: 1, serving_version: null, position: 4_000, lag: 1_212_731, state: "building", holder: "0190a7c0-0000-7000-8000-000000000001", stopped: null,
    rebuild: { position: 4_000, target: 1_216_731, events_per_s: 210, seconds_left: 5_775 } },
  { name: "users", version: 1, serving_version: 1, position: 11, lag: 1_216_720, state: "stopped", holder: "0190a7c0-0000-7000-8000-000000000001",
    stopped: { position: 12, reason: "position 12 changes document 0190a7c0-0000-7000-8000-000000000009, which no event began" }, rebuild: null },
];

step("shows how a rebuild comes along, and where and why a projection stopped", async () => {
  await page.route(LIST, (route) => route.fulfill({ json: { items: SEEN_SELDOM, next_cursor: null } }));
  await page.goto(`${server.origin}/projections`);
  await row("agents").getByText("48,211 events a second, 9 s left").waitFor();
  await row("agents").getByText("version 1 answers until then").waitFor();
  await row("steps").getByText("nothing can be read yet").waitFor();
  assert.equal(await page.getByRole("button", { name: "Cancel the rebuild of steps" }).count(), 0, "nothing else could answer");
  await page.getByRole("button", { name: "Cancel the rebuild of tasks" }).waitFor();
  await row("users").getByText("Stopped at position 12: ").waitFor();
  await inspect(page, "14b-projections-at-work");
  await page.setViewportSize(PHONE);
  await inspect(page, "14c-phone-projections-at-work");
  await page.setViewportSize(DESKTOP);
});

step("wants a reason before it skips an event, and shows what the server makes of it", async () => {
  await page.getByRole("button", { name: "Skip the event at which users is stopped" }).click();
  await page.getByRole("button", { name: "Skip the event", exact: true }).click();
  await page.getByText("Write why: others will read it later.").waitFor();
  await page.getByLabel("Why").fill("It was written by hand");
  await inspect(page, "14d-skip-event");
  await page.getByRole("button", { name: "Skip the event", exact: true }).click();
  await page.getByText("The projection is not stopped at this position.").waitFor();
  forgive(complaints, "status of 409");
  await page.getByRole("button", { name: "Leave it stopped" }).click();
  // Nobody loads the page anew.
  await page.unroute(LIST);
  await row("inbox").waitFor();
  await row("users").getByText("up to date").waitFor();
});

step("calls a rebuild off and resumes what stopped, and says what the server refuses", async () => {
  let items = structuredClone(SEEN_SELDOM);
  await page.route(LIST, (route) => route.fulfill({ json: { items, next_cursor: null } }));
  await page.reload();
  // The server itself knows of no such rebuild and of no such stop.
  await page.getByRole("button", { name: "Cancel the rebuild of tasks" }).click();
  await page.getByText("Nothing is being rebuilt.").waitFor();
  await page.getByRole("button", { name: "Resume users" }).click();
  await page.getByText("The projection is not stopped.").waitFor();
  await page.getByText("Nothing is being rebuilt.").waitFor({ state: "detached" });
  forgive(complaints, "status of 409");
  const asked = [];
  const change = (name, changed) => {
    items = items.map((item) => (item.name === name ? { ...item, ...changed } : item));
  };
  await page.route("**/api/v1/projections/*/*", (route) => {
    const request = route.request();
    asked.push(`${request.method()} ${new URL(request.url()).pathname}`);
    if (request.method() === "DELETE") change("tasks", { rebuild: null });
    else change("users", { state: "live", stopped: null });
    return route.fulfill({ json: {} });
  });
  await page.getByRole("button", { name: "Cancel the rebuild of tasks" }).click();
  await page.getByRole("button", { name: "Rebuild tasks" }).waitFor();
  await row("tasks").locator("[data-progress]").waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Resume users" }).click();
  await page.getByText("Stopped at position 12: ").waitFor({ state: "detached" });
  assert.deepEqual(asked, ["DELETE /api/v1/projections/tasks/rebuild", "POST /api/v1/projections/users/resume"]);
  assert.equal(await page.getByText("The projection is not stopped.").count(), 0, "what was refused before is over");
  await page.unrouteAll();
});
