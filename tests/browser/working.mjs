// From the first start to the first result: set up, an insight agent, a task that finishes live, its notification.
import assert from "node:assert/strict";
import { forgive, inspect } from "./browser.mjs";
import { PERSON } from "./people.mjs";
import { AIR_PASSENGERS, complaints, heading, page, path, paths, server, step } from "./scene.mjs";

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
