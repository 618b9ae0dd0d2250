// Rules: refused at their field, edited, run; then what was done, and how an agent is changed.
import assert from "node:assert/strict";
import { forgive, inspect } from "./browser.mjs";
import { complaints, context, heading, page, path, paths, server, step } from "./scene.mjs";

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

step("says why a task waits, and lets it go on as soon as that is over, without loading the page anew", async () => {
  await page.goto(server.origin + paths.rules);
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByText("Paused", { exact: true }).waitFor();
  await page.getByLabel("Input").fill('{"amount": 7}');
  await page.getByRole("button", { name: "Give it this task" }).click();
  await page.locator("[data-status='queued']").waitFor({ state: "attached" });
  await page.getByText("The agent is paused.").waitFor();
  await inspect(page, "12b-task-that-waits");
  const waiting = page.url();
  await page.goto(`${server.origin}/tasks?status=queued`);
  await page.getByText("The agent is paused.").waitFor();
  await inspect(page, "12c-tasks-that-wait");
  await page.goto(waiting);
  await page.getByText("The agent is paused.").waitFor();
  const other = await context.newPage();
  await other.goto(server.origin + paths.rules);
  await other.getByRole("button", { name: "Resume" }).click();
  await page.locator("[data-status='completed']").waitFor({ state: "attached" });
  assert.equal(await page.getByText("The agent is paused.").count(), 0);
  await other.close();
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
