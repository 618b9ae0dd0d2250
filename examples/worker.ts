// A worker for an agent of the kind `worker`: leases its tasks, does them, answers. Needs no package.
//
//     export MARVIN_URL=http://127.0.0.1:8080 MARVIN_EMAIL=… MARVIN_PASSWORD=… MARVIN_AGENT=<the agent's id>
//     node examples/worker.ts                                  # Node 22.18 or later, which reads TypeScript by itself
//     npx tsx examples/worker.ts                               # Node 20
//
// Counts the words of {"text": "…"}; with "seconds" it takes as long as slow work would. SIGTERM or Ctrl-C: it ends behind the task
// that it is at. What the calls mean: docs/workers.md.

interface Task {
  id: string;
  attempt: number;
  input: { text: string; seconds?: number };
}

interface Leased {
  task: Task;
  lease: string;
  expires_in_ms: number;
}

const { MARVIN_URL: url = "http://127.0.0.1:8080", MARVIN_EMAIL: email, MARVIN_PASSWORD: password, MARVIN_AGENT: agent } = process.env;
/** For a task, before asking again. */
const WAIT_S = 20;
/** Before asking again a server that cannot answer. */
const PAUSE_MS = 1_000;

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** An answer that asking again would not change. */
class Refused extends Error {
  readonly status: number;

  constructor(status: number, problem: { title?: string; detail?: string }) {
    super(`${status} ${problem.title}: ${problem.detail}`);
    this.status = status;
  }
}

let cookie = "";
let csrf = "";

function send(path: string, body: unknown, signal?: AbortSignal): Promise<Response> {
  const headers = { "Content-Type": "application/json", "X-CSRF-Token": csrf, Cookie: cookie };
  const signals = [AbortSignal.timeout((WAIT_S + 10) * 1_000), ...(signal ? [signal] : [])];
  return fetch(url + path, { method: "POST", headers, body: JSON.stringify(body), signal: AbortSignal.any(signals) });
}

async function signIn() {
  const answer = await send("/api/v1/session", { email, password });
  if (!answer.ok) throw new Refused(answer.status, (await answer.json()) as object);
  cookie = answer.headers.getSetCookie().map((set) => set.split(";")[0]).join("; ");
  csrf = ((await answer.json()) as { csrf_token: string }).csrf_token;
}

/** Makes a call; again while the server cannot answer, and behind a new sign-in where the session has ended. */
async function call<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  for (;;) {
    try {
      const answer = await send(path, body, signal);
      if (answer.ok) return (await answer.json()) as T;
      const problem = (await answer.json()) as object;
      if (answer.status === 401) {
        await signIn();
        continue;
      }
      if (answer.status < 500 && answer.status !== 429) throw new Refused(answer.status, problem);
      console.error(`Marvin cannot answer, trying again: ${answer.status}`);
    } catch (trouble) {
      if (trouble instanceof Refused || signal?.aborted) throw trouble;
      console.error(`Marvin cannot answer, trying again: ${trouble}`);
    }
    await pause(PAUSE_MS);
  }
}

/** The work itself. `lost` tells when nothing that it does counts any more. */
async function work(given: Task["input"], lost: AbortSignal): Promise<{ words: number }> {
  const until = Date.now() + (given.seconds ?? 0) * 1_000;
  while (Date.now() < until && !lost.aborted) await pause(Math.min(200, until - Date.now()));
  return { words: given.text.split(/\s+/).filter(Boolean).length };
}

async function answer(path: string, { task, lease }: Leased, lost: AbortSignal) {
  const fail = (code: string, message: string) => call(`${path}/fail`, { lease, code, message: message.slice(0, 4_000), retry: false });
  let output: unknown;
  try {
    output = await work(task.input, lost);
  } catch (error) {
    return fail("bad_input", String(error)); // the same input would fail again
  }
  if (lost.aborted) return;
  try {
    await call(`${path}/complete`, { lease, output }); // the same answer may be sent again
  } catch (why) {
    if (!(why instanceof Refused) || ![413, 422].includes(why.status)) throw why;
    await fail("result_too_large", why.message);
  }
}

async function run(leased: Leased, heartbeatS: number) {
  const { task, lease } = leased;
  const path = `/api/v1/tasks/${task.id}`;
  console.log(`task ${task.id}, attempt ${task.attempt}`);
  const lost = new AbortController();
  // Tells Marvin now and then that the work goes on. Refused means: cancelled, out of time, or somebody else's by now.
  const heart = setInterval(() => {
    call(`${path}/heartbeat`, { lease }, lost.signal).catch((why) => {
      if (!lost.signal.aborted) console.error(`stopping: ${why}`);
      lost.abort();
    });
  }, Math.min(heartbeatS * 1_000, leased.expires_in_ms / 3));
  try {
    await answer(path, leased, lost.signal);
  } catch (why) {
    console.error(`not taken: ${why}`); // too late
  } finally {
    clearInterval(heart);
  }
}

const stopping = new AbortController();
process.on("SIGTERM", () => stopping.abort());
process.on("SIGINT", () => stopping.abort());

console.log(`waiting for tasks of agent ${agent}`);
while (!stopping.signal.aborted) {
  try {
    const given = await call<{ tasks: Leased[]; heartbeat_s: number }>(
      `/api/v1/agents/${agent}/lease`,
      { max: 1, wait_s: WAIT_S },
      stopping.signal,
    );
    for (const leased of given.tasks) await run(leased, given.heartbeat_s);
  } catch (trouble) {
    if (!stopping.signal.aborted) throw trouble;
  }
}
export {};
