// Other people, wrong addresses, lost connections, small and dark screens, and the way out and in again.
import assert from "node:assert/strict";
import { assertNoComplaints, DESKTOP, forgive, inspect, openPage, PHONE } from "./browser.mjs";
import { MEMBER, PERSON, signIn } from "./people.mjs";
import { AIR_PASSENGERS, browser, complaints, context, heading, inspectEach, page, path, paths, server, step } from "./scene.mjs";

let member;

step("makes a user, who sees what a member may", async () => {
  await page.getByRole("link", { name: "Users" }).click();
  await heading("Users");
  await page.getByRole("button", { name: "New user" }).click();
  await page.getByLabel("Name").fill(MEMBER.name);
  await page.getByLabel("Email").fill(MEMBER.email);
  await page.getByLabel("First password").fill(MEMBER.password);
  await inspect(page, "14-new-user");
  await page.getByRole("button", { name: "Create the user" }).click();
  await page.getByText(MEMBER.email).waitFor();
  await inspect(page, "15-users");

  member = await openPage(browser);
  await member.page.goto(`${server.origin}/sign-in`);
  await signIn(member.page, MEMBER);
  await member.page.getByRole("link", { name: "Passenger forecast" }).click();
  await member.page.getByRole("button", { name: "Give it this task" }).waitFor();
  for (const name of ["Users", "Projections", "Schedules", "Secrets", "New agent", "Edit"]) assert.equal(await member.page.getByRole("link", { name }).count(), 0, name);
  await inspect(member.page, "19-member");
});

step("erases a person only when their address is typed, and signs them out where they are", async () => {
  await page.getByRole("button", { name: `Erase ${MEMBER.name}` }).click();
  const erase = page.getByRole("button", { name: "Erase for good" });
  assert.equal(await erase.isDisabled(), true);
  await page.keyboard.press("Escape");
  await erase.waitFor({ state: "detached" });
  await page.getByRole("button", { name: `Erase ${MEMBER.name}` }).click();
  await page.getByLabel(`Type ${MEMBER.email} to confirm`).fill(MEMBER.email);
  await inspect(page, "16-erase-user");
  await erase.click();
  await page.getByText("Erased", { exact: true }).waitFor();
  assert.equal(await page.getByText(MEMBER.name).count(), 0);

  await member.page.getByRole("heading", { level: 1, name: "Sign in" }).waitFor();
  forgive(member.complaints, "status of 401");
  assertNoComplaints(member.complaints);
  await member.context.close();
});

step("says so when an address leads nowhere, or to what is not there", async () => {
  await page.goto(`${server.origin}/nowhere`);
  await heading("Nothing here");
  await inspect(page, "17-nothing-here");
  await page.goto(`${server.origin}/tasks/0190a7c0-0000-7000-8000-000000000000`);
  await page.getByRole("alert").waitFor();
  await inspect(page, "18-no-such-task");
  forgive(complaints, "status of 404");
});

step("reconnects and catches up after the connection was lost", async () => {
  await page.goto(server.origin + paths.insight);
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByText("Paused", { exact: true }).waitFor();
  await page.getByLabel("CSV file").setInputFiles(AIR_PASSENGERS);
  await page.getByText("144 values").waitFor();
  await page.route("**/events/stream?*", (route) => route.abort());
  await page.getByRole("button", { name: "Give it this task" }).click();
  await page.locator("[data-live='reconnecting']").waitFor();

  const other = await context.newPage();
  await other.goto(server.origin + paths.insight);
  await other.getByRole("button", { name: "Resume" }).click();
  await other.getByText("Active", { exact: true }).waitFor();
  await other.close();
  await page.unroute("**/events/stream?*");
  await page.locator("[data-status='completed']").waitFor({ state: "attached" });
  await page.locator("[data-live='live']").waitFor();
  forgive(complaints, "net::ERR_FAILED");
});

step("serves a phone: the links fold away, and nothing stands out sideways", async () => {
  await page.setViewportSize(PHONE);
  await page.goto(server.origin + paths.task);
  await page.locator(".chart canvas").waitFor();
  await inspect(page, "20-phone-task");
  await page.getByRole("button", { name: "Menu" }).click();
  await inspect(page, "21-phone-menu");
  await page.getByRole("link", { name: "Agents", exact: true }).click();
  await heading("Agents");
  assert.equal(await page.getByRole("link", { name: "Tasks", exact: true }).isVisible(), false);
  await inspectEach("22-phone", {
    agents: "/agents",
    "insight-agent": paths.insight,
    "rules-agent": `${paths.rules}/edit`,
    tasks: "/tasks",
    schedules: "/schedules",
    schedule: paths.schedule,
    "schedule-edit": `${paths.schedule}/edit`,
    inbox: "/inbox",
    users: "/users",
    projections: "/projections",
  });
});

step("follows the system into the dark", async () => {
  await page.setViewportSize(DESKTOP);
  await page.emulateMedia({ colorScheme: "dark" });
  await inspectEach("30-dark", {
    agents: "/agents",
    task: paths.task,
    "insight-agent": paths.insight,
    "rules-edit": `${paths.rules}/edit`,
    "new-agent": "/agents/new",
    tasks: "/tasks",
    schedules: "/schedules",
    schedule: paths.schedule,
    "schedule-edit": `${paths.schedule}/edit`,
    inbox: "/inbox",
    users: "/users",
    projections: "/projections",
  });
  await page.emulateMedia({ colorScheme: "light" });
});

step("signs out and in again, back to where one was", async () => {
  await page.goto(server.origin + paths.task);
  await page.getByRole("button", { name: "Sign out" }).click();
  await heading("Sign in");
  await page.goto(server.origin + paths.task);
  await heading("Sign in");
  await signIn(page, { ...PERSON, password: "not the password" });
  await page.getByText("The email address or the password is wrong.").waitFor();
  await inspect(page, "40-sign-in-refused");
  await signIn(page, PERSON);
  await page.locator(".chart canvas").waitFor();
  assert.equal(path(), paths.task);
  forgive(complaints, "status of 401");
});

step("never made the browser complain", () => assertNoComplaints(complaints));
