// Starts the real server in a directory of its own, and stops it.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** Ports below 32768 are never handed out by the kernel for outgoing connections, so nobody takes ours meanwhile. */
const PORT_MIN = 20_000;
const PORT_MAX = 32_000;
/** A debug build on a busy machine starts well within this. */
const START_MS_MAX = 60_000;
/** The server itself gives running requests 30 s when it is told to stop. */
const STOP_MS_MAX = 35_000;

export async function startServer() {
  const binary = process.env.MARVIN_BIN ?? join(ROOT, "target/debug/marvin");
  const directory = await mkdtemp(join(tmpdir(), "marvin-browser-"));
  const port = await freePort();
  const origin = `http://127.0.0.1:${port}`;
  const child = spawn(binary, ["serve"], {
    cwd: directory,
    env: {
      PATH: process.env.PATH,
      MARVIN_LISTEN: `127.0.0.1:${port}`,
      MARVIN_METRICS_LISTEN: "off",
      MARVIN_DATA_DIR: join(directory, "data"),
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const setupLink = await readSetupLink(child, origin);
  return { origin, setupLink, stop: () => stop(child, directory) };
}

/** The one-time link among the lines that the server writes; what it wrote instead, if it ends before. */
function readSetupLink(child, origin) {
  const written = [];
  return new Promise((resolve, reject) => {
    const giveUp = (why) => reject(new Error(`${why}; the server wrote:\n${written.join("\n")}`));
    const timer = setTimeout(() => giveUp(`no set-up link within ${START_MS_MAX} ms`), START_MS_MAX);
    const read = (line) => {
      written.push(line);
      const link = new RegExp(`${origin}/setup\\?token=[^\\s"\\\\]+`).exec(line)?.[0];
      if (link === undefined) return;
      clearTimeout(timer);
      resolve(link);
    };
    for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on("line", read);
    child.once("error", (error) => giveUp(error.message));
    child.once("exit", (code) => giveUp(`it ended with ${code}`));
  });
}

async function stop(child, directory) {
  const ended = child.exitCode !== null ? Promise.resolve() : new Promise((resolve) => child.once("exit", resolve));
  const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS_MAX);
  child.kill("SIGTERM");
  await ended;
  clearTimeout(timer);
  await rm(directory, { recursive: true, force: true });
}

async function freePort() {
  for (;;) {
    const port = PORT_MIN + Math.floor(Math.random() * (PORT_MAX - PORT_MIN));
    if (await isFree(port)) return port;
  }
}

function isFree(port) {
  return new Promise((resolve) => {
    const trial = createServer();
    trial.once("error", () => resolve(false));
    trial.listen(port, "127.0.0.1", () => trial.close(() => resolve(true)));
  });
}
