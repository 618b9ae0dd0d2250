// The one door to the API: same origin, cookie session, CSRF token, problems as errors, and reading one's own writes.
import { Problem, problemFromAnswer } from "./problem";

/** A view that lags is asked again; after this many answers of 503 the person is told. */
const GET_ATTEMPTS_MAX = 3;
/** Used when a 503 names no Retry-After: the server's own usual answer. */
const RETRY_AFTER_DEFAULT_S = 1;

export interface Answer<T> {
  body: T;
  /** How far the answering view is, or where the command's last event stands; 0 when the answer names none. */
  position: number;
}

export interface CommandOptions {
  idempotencyKey?: string;
  /** The sequence that was seen: another one is refused with 412. */
  ifSequence?: number;
}

export interface ApiSettings {
  fetch: typeof fetch;
  pause: (ms: number) => Promise<void>;
}

export class Api {
  /** The highest position this page has written or been told of: queries wait for it. */
  minPosition = 0;
  csrfToken: string | null = null;
  /** Called when any call but signing in learns that nobody is signed in. */
  onSignedOut: () => void = () => {};
  /** Asks the server for the session's current CSRF token: another tab may have signed in anew. */
  renewCsrfToken: () => Promise<string | null> = async () => null;

  readonly #settings: ApiSettings;

  constructor(settings: ApiSettings) {
    this.#settings = settings;
  }

  sawPosition(position: number): void {
    if (position > this.minPosition) this.minPosition = position;
  }

  async get<T>(path: string, headers: Record<string, string> = {}): Promise<Answer<T>> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#send<T>("GET", path, this.#minPositionHeader(headers));
      } catch (thrown) {
        const problem = Problem.from(thrown);
        if (problem.status !== 503 || attempt === GET_ATTEMPTS_MAX) throw problem;
        await this.#settings.pause((problem.retryAfterS ?? RETRY_AFTER_DEFAULT_S) * 1000);
      }
    }
  }

  /** A change. Its position raises what later queries wait for. */
  async command<T>(method: "POST" | "PATCH" | "PUT" | "DELETE", path: string, body?: unknown, options: CommandOptions = {}): Promise<Answer<T>> {
    const headers: Record<string, string> = {};
    if (options.idempotencyKey !== undefined) headers["Idempotency-Key"] = options.idempotencyKey;
    if (options.ifSequence !== undefined) headers["If-Match"] = `"${options.ifSequence}"`;
    const answer = await this.#sendChange<T>(method, path, headers, body);
    this.sawPosition(answer.position);
    return answer;
  }

  async #sendChange<T>(method: string, path: string, headers: Record<string, string>, body: unknown): Promise<Answer<T>> {
    const sent = this.csrfToken;
    try {
      return await this.#send<T>(method, path, withToken(headers, sent), body);
    } catch (thrown) {
      const problem = Problem.from(thrown);
      if (problem.status !== 403 || sent === null) throw problem;
      const renewed = await this.renewCsrfToken();
      if (renewed === null || renewed === sent) throw problem;
      return this.#send<T>(method, path, withToken(headers, renewed), body);
    }
  }

  #minPositionHeader(headers: Record<string, string>): Record<string, string> {
    return this.minPosition === 0 ? headers : { "Marvin-Min-Position": String(this.minPosition), ...headers };
  }

  async #send<T>(method: string, path: string, headers: Record<string, string>, body?: unknown): Promise<Answer<T>> {
    const init: RequestInit = { method, headers: { ...headers }, credentials: "same-origin" };
    if (body !== undefined) {
      init.headers = { ...init.headers, "Content-Type": "application/json" };
      init.body = JSON.stringify(body);
    }
    let response: Response;
    try {
      response = await this.#settings.fetch(path, init);
    } catch {
      throw Problem.unreachable();
    }
    const document = await readJson(response);
    if (!response.ok) {
      if (response.status === 401 && !ANSWERS_401_ITSELF.includes(path)) this.onSignedOut();
      throw problemFromAnswer(response.status, document, response.headers.get("Retry-After"));
    }
    return { body: document as T, position: Number(response.headers.get("Marvin-Position") ?? 0) };
  }
}

export const SESSION_PATH = "/api/v1/session";
export const SETUP_PATH = "/api/v1/setup";
/** Here 401 is an ordinary "no", which the page that asks puts into words. */
const ANSWERS_401_ITSELF = [SESSION_PATH, SETUP_PATH];

function withToken(headers: Record<string, string>, token: string | null): Record<string, string> {
  return token === null ? headers : { ...headers, "X-CSRF-Token": token };
}

async function readJson(response: Response): Promise<unknown> {
  const text = await response.text();
  if (text === "") return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

export const api = new Api({
  fetch: (input, init) => fetch(input, init),
  pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
});
