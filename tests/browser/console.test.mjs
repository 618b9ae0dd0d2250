// Walks through the console as its first person does: set up, work, look, sign out and in again.
import assert from "node:assert/strict";
import { after, before, describe } from "node:test";
import { fileURLToPath } from "node:url";
import { assertNoComplaints, DESKTOP, forgive, inspect, openBrowser, openPage, PHONE } from "./browser.mjs";
import { MEMBER, PERSON, signIn, steps } from "./people.mjs";
import { startServer } from "./server.mjs";

const AIR_PASSENGERS = fileURLToPath(new URL("../../examples/data/air-passengers.csv", import.meta.url));
describe("the console", () => {
  let server, browser, page, context, complaints, member;
  const paths = {};

  before(async () => {
    server = await startServer();
    browser = await openBrowser();
    ({ page, context, complaints } = await openPage(browser));
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  const step = steps(() => page);
  const heading = (name) => page.getByRole("heading", { level: 1, name }).waitFor();
  const inspectEach = async (prefix, targets) => {
    for (const [name, target] of Object.entries(targets)) {
      await page.goto(server.origin + target);
      await page.locator("main .panel").first().waitFor();
      await page.locator(".busy").waitFor({ state: "detached" });
      await inspect(page, `${prefix}-${name}`);
    }
  };
  const path = () => new URL(page.url()).pathname;

  step("leads whoever is not signed in to the sign-in page", async () => {
    await page.goto(`${server.origin}/tasks?status=failed`);
    await heading("Sign in");
    assert.equal(new URL(page.url()).searchParams.get("next"), "/tasks?status=failed");
    await inspect(page, "01-sign-in");
    forgive(complaints, "status of 401");
  });

  step("sets Marvin up, and names what is wrong at its field before sending anything", async () => {
    await page.goto(server.setupLink);
    await heading("Set up Marvin");
    await page.getByRole("button", { name: "Set up Marvin" }).click();
    await page.getByText("Write an email address.").waitFor();
    await inspect(page, "02-setup-refused");

    await page.getByLabel("Email").fill(PERSON.email);
    await page.getByLabel("Your name").fill(PERSON.name);
    await page.getByLabel("Password", { exact: true }).fill(PERSON.password);
    await page.getByLabel("Password again").fill("something else");
    await page.getByRole("button", { name: "Set up Marvin" }).click();
    await page.getByText("The two passwords differ.").waitFor();
    await page.getByLabel("Password again").fill(PERSON.password);
    await page.getByRole("button", { name: "Set up Marvin" }).click();

    await heading("Agents");
    await page.getByText("No agents yet").waitFor();
    await inspect(page, "03-agents-empty");
  });

  step("makes an insight agent", async () => {
    await page.getByRole("link", { name: "New agent" }).first().click();
    await heading("New agent");
    await page.getByText("Insight", { exact: true }).click();
    await page.getByLabel("Name").fill("Passenger forecast");
    await page.getByLabel("What it is for").fill("Says how many passengers to expect.");
    await page.getByLabel("Season").fill("1.5");
    await page.getByRole("button", { name: "Create the agent" }).click();
    await page.getByText("Write a whole number.").waitFor();
    await page.getByLabel("Season").fill("12");
    await inspect(page, "04-new-insight-agent");
    await page.getByRole("button", { name: "Create the agent" }).click();
    await heading("Passenger forecast");
    paths.insight = path();
  });

  step("refuses a series that is none, and previews a CSV file", async () => {
    await page.getByLabel("Values", { exact: true }).fill("1, 2, many");
    await page.getByText("Value 3 is not a number").first().waitFor();
    await page.getByLabel("CSV file").setInputFiles(AIR_PASSENGERS);
    await page.getByText("144 values").waitFor();
    await page.getByLabel("Values ahead").fill("24");
    await inspect(page, "05-insight-agent");
  });

  step("shows a task finish live, without loading the page anew", async () => {
    await page.evaluate(() => (window.marvinWasHere = true));
    await page.getByRole("button", { name: "Give it this task" }).click();
    await page.locator("[data-status='completed']").waitFor({ state: "attached" });
    await page.locator(".chart canvas").waitFor();
    assert.equal(await page.evaluate(() => window.marvinWasHere), true);
    await page.locator("[data-live='live']").waitFor();
    paths.task = path();
  });

  step("draws the forecast, says it in words and as a table, and tells the task's history", async () => {
    const events = page.locator("[data-event]");
    await page.locator("[data-event='marvin.task.completed.v1']").waitFor();
    assert.equal(await events.first().getAttribute("data-event"), "marvin.task.submitted.v1");
    assert.ok((await page.locator(".summary").innerText()).length > 20);
    await page.getByText("24 forecast values as a table").click();
    assert.equal(await page.getByRole("group", { name: "Forecast values" }).getByRole("row").count(), 25);
    const drawn = await page.locator(".chart canvas").evaluate((canvas) => {
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      return pixels.some((value) => value !== 0);
    });
    assert.ok(drawn, "the chart is empty");
    await inspect(page, "06-insight-task");
  });

  step("counts the notification without being asked, and leads from it to the task", async () => {
    await page.locator("nav [data-unread='1']").waitFor();
    await page.getByRole("link", { name: /^Inbox/ }).last().click();
    await heading("Inbox");
    await page.locator("[data-notification='unread']").waitFor();
    await inspect(page, "07-inbox");
    await page.getByRole("link", { name: "Open the task" }).click();
    await page.locator(".chart canvas").waitFor();
    assert.equal(path(), paths.task);
    await page.goBack();
    await page.getByRole("button", { name: "Mark as read" }).click();
    await page.locator("[data-notification='read']").waitFor();
    await page.locator("[data-unread]").waitFor({ state: "detached" });
  });

  step("shows what is wrong with a rule at its field, with the column", async () => {
    await page.getByRole("link", { name: "Agents", exact: true }).click();
    await page.getByRole("link", { name: "New agent" }).click();
    await page.getByText("Rules", { exact: true }).click();
    await page.getByLabel("Name", { exact: true }).first().fill("Order desk");
    const rule = page.getByRole("group", { name: "Rule 1", exact: true });
    await rule.getByLabel("Name").fill("large order");
    await rule.getByLabel("When").fill("input.amount >");
    await rule.getByLabel("Title").fill("A large order of {{ input.amount }}");
    await rule.getByLabel("Text").fill("Look at it before it is packed.");
    await rule.getByRole("button", { name: "Answer a value" }).click();
    await rule.getByLabel("Value").fill('{"size": "large", "amount": "{{ input.amount }}"}');
    await page.getByRole("button", { name: "Create the agent" }).click();
    const when = rule.getByLabel("When");
    await page.locator("[aria-invalid='true']").waitFor();
    assert.equal(await when.getAttribute("aria-invalid"), "true");
    const words = await page.locator(`[id="${(await when.getAttribute("aria-describedby")).split(" ").at(-1)}"]`).innerText();
    assert.match(words, /column \d+/);
    await inspect(page, "08-rule-refused");
    forgive(complaints, "status of 422");
  });

  step("keeps rules the same between form and JSON, and reorders them", async () => {
    await page.getByRole("button", { name: "Add a rule" }).click();
    const second = page.getByRole("group", { name: "Rule 2", exact: true });
    await second.getByLabel("Name").fill("any order");
    await second.getByLabel("When").fill("true");
    await second.getByRole("button", { name: "Remove action 1 of rule 2" }).click();
    await page.getByRole("button", { name: "Move rule 2 up" }).click();
    const first = page.getByRole("group", { name: "Rule 1", exact: true });
    assert.equal(await first.getByLabel("Name").inputValue(), "any order");
    await page.getByRole("group", { name: "Rule 2", exact: true }).getByLabel("When").fill("input.amount > 1000");
    await page.getByRole("button", { name: "Edit as JSON" }).click();
    const config = JSON.parse(await page.getByLabel("Rules as JSON").inputValue());
    assert.deepEqual(config.rules.map((rule) => rule.name), ["any order", "large order"]);
    await inspect(page, "09-rules-as-json");
    await page.getByRole("button", { name: "Edit as a form" }).click();
    await page.getByRole("button", { name: "Create the agent" }).click();
    await heading("Order desk");
    paths.rules = path();
  });

  step("runs a rules task and shows what matched and what was answered", async () => {
    await page.getByLabel("Input").fill('{"amount": 2500');
    await page.getByRole("button", { name: "Give it this task" }).click();
    await page.getByText("This is not JSON").waitFor();
    await page.getByLabel("Input").fill('{"amount": 2500}');
    await inspect(page, "10-rules-agent");
    await page.getByRole("button", { name: "Give it this task" }).click();
    await page.locator("[data-status='completed']").waitFor({ state: "attached" });
    await page.getByText("large order", { exact: true }).waitFor();
    await page.getByText('"amount": 2500').first().waitFor();
    await inspect(page, "11-rules-task");
  });

  step("lists tasks, and keeps those of one status apart", async () => {
    await page.getByRole("link", { name: "Tasks", exact: true }).click();
    await heading("Tasks");
    assert.equal(await page.evaluate(() => document.activeElement?.tagName), "H1", "a new page is announced by its title");
    await page.getByRole("link", { name: /Order desk/ }).waitFor();
    await page.getByRole("link", { name: /Passenger forecast/ }).waitFor();
    await inspect(page, "12-tasks");
    await page.getByRole("button", { name: "Failed" }).click();
    await page.getByText("None of this kind").waitFor();
    await page.reload();
    await page.getByText("None of this kind").waitFor();
  });

  step("pauses, edits and resumes an agent", async () => {
    await page.goto(server.origin + paths.rules);
    await page.getByRole("button", { name: "Pause" }).click();
    await page.getByText("Paused", { exact: true }).waitFor();
    await page.getByRole("link", { name: "Edit" }).click();
    await heading("Edit Order desk");
    await page.getByLabel("Name", { exact: true }).first().fill("Order desk two");
    await inspect(page, "13-edit-agent");
    await page.getByRole("button", { name: "Save" }).click();
    await heading("Order desk two");
    await page.getByRole("button", { name: "Resume" }).click();
    await page.getByText("Active", { exact: true }).waitFor();
  });

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
    for (const name of ["Users", "New agent", "Edit"]) assert.equal(await member.page.getByRole("link", { name }).count(), 0, name);
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
      inbox: "/inbox",
      users: "/users",
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
      inbox: "/inbox",
      users: "/users",
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
});
