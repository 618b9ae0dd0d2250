// Secrets, and the webhook agents that sign with them.
import assert from "node:assert/strict";
import { DESKTOP, forgive, inspect, openPage, PHONE } from "./browser.mjs";
import { MEMBER, signIn } from "./people.mjs";
import { browser, complaints, heading, page, paths, path, server, step } from "./scene.mjs";

const row = (name) => page.locator(`[data-secret='${name}']`);
const OPERATOR = { ...MEMBER, email: "grace@example.org", name: "Grace Hopper" };

step("sets a secret, whose value is never shown again", async () => {
  await page.getByRole("link", { name: "Secrets" }).click();
  await heading("Secrets");
  await page.getByText("No secrets yet").waitFor();
  await inspect(page, "14e-no-secrets");
  await page.getByRole("button", { name: "New secret" }).click();
  await page.getByLabel("Name").fill("not a name");
  await page.getByRole("button", { name: "Set the secret" }).click();
  await page.getByText("Write or paste the value.").waitFor();
  await page.getByLabel("Name").fill("receiver-key");
  await page.getByRole("button", { name: "Draw a key to sign webhooks with" }).click();
  const value = await page.getByLabel("Value").inputValue();
  assert.match(value, /^whsec_.{44}$/);
  await inspect(page, "14f-new-secret");
  await page.getByRole("button", { name: "Set the secret" }).click();
  await row("receiver-key").waitFor();
  await page.getByRole("button", { name: "Replace receiver-key" }).click();
  assert.equal(await page.getByLabel("Value").inputValue(), "");
  await page.getByRole("button", { name: "Draw a key to sign webhooks with" }).click();
  await page.getByRole("button", { name: "Replace the value" }).click();
  await page.getByRole("heading", { name: "Replace receiver-key" }).waitFor({ state: "detached" });
  await inspect(page, "14g-secrets");
  assert.ok(!(await page.content()).includes("whsec_"));
});

step("makes a webhook agent, and is told at the field what the server refuses", async () => {
  await page.goto(`${server.origin}/agents/new`);
  await page.getByRole("radio", { name: /^Webhook/ }).check({ force: true });
  await page.getByLabel("Name").fill("Order desk");
  await page.getByRole("textbox", { name: "Address" }).fill("http://169.254.169.254/latest");
  await page.getByLabel("Signed with").selectOption("receiver-key");
  await page.getByLabel("The answer").selectOption("callback");
  await page.getByRole("button", { name: "Create the agent" }).click();
  await page.getByText("is not public").waitFor();
  forgive(complaints, "status of 422");
  await inspect(page, "14h-webhook-refused");
  await page.getByRole("textbox", { name: "Address" }).fill("https://orders.example.org/hook");
  await page.getByRole("button", { name: "Create the agent" }).click();
  await heading("Order desk");
  await page.getByText("Later, by a callback").waitFor();
  paths.webhook = path();
  await inspect(page, "14i-webhook-agent");
});

step("shows secrets and webhooks on a phone and in the dark", async () => {
  for (const [name, target] of Object.entries({ secrets: "/secrets", "webhook-edit": `${paths.webhook}/edit` })) {
    await page.goto(server.origin + target);
    await page.locator("main .panel").first().waitFor();
    await page.locator(".busy").waitFor({ state: "detached" });
    await page.setViewportSize(PHONE);
    await inspect(page, `14j-phone-${name}`);
    await page.setViewportSize(DESKTOP);
    await page.emulateMedia({ colorScheme: "dark" });
    await inspect(page, `14k-dark-${name}`);
    await page.emulateMedia({ colorScheme: "light" });
  }
});

step("shows an operator the names of secrets and nothing to change them by", async () => {
  await page.goto(`${server.origin}/users`);
  await page.getByRole("button", { name: "New user" }).click();
  await page.getByLabel("Name").fill(OPERATOR.name);
  await page.getByLabel("Email").fill(OPERATOR.email);
  await page.getByLabel("First password").fill(OPERATOR.password);
  await page.getByLabel(/^member/).uncheck();
  await page.getByLabel(/^operator/).check();
  await page.getByRole("button", { name: "Create the user" }).click();
  await page.getByText(OPERATOR.email).waitFor();
  const operator = await openPage(browser);
  await operator.page.goto(`${server.origin}/sign-in`);
  await signIn(operator.page, OPERATOR);
  await operator.page.getByRole("link", { name: "Secrets" }).click();
  await operator.page.locator("[data-secret='receiver-key']").waitFor();
  for (const name of ["New secret", "Replace receiver-key", "Remove receiver-key"]) {
    assert.equal(await operator.page.getByRole("button", { name }).count(), 0, name);
  }
  await operator.context.close();
});

step("removes a secret and says what that means", async () => {
  await page.goto(`${server.origin}/secrets`);
  await page.getByRole("button", { name: "Remove receiver-key" }).click();
  await page.getByText("fail from now on").waitFor();
  await inspect(page, "14l-remove-secret");
  await page.getByRole("button", { name: "Remove the secret" }).click();
  await page.getByText("No secrets yet").waitFor();
});
