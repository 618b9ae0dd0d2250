// Who is signed in. Everything that needs to know asks here.
import { api } from "./api";
import { readSession, signIn, signOut } from "./calls";
import { navigation } from "./navigation.svelte";
import { Problem } from "./problem";
import type { Role, SessionAnswer, User } from "./types";

class Session {
  user: User | null = $state(null);
  /** False until the server has said whether anyone is signed in. */
  known = $state(false);
  /** Why the server could not say. */
  problem: Problem | null = $state(null);

  readonly isAdmin = $derived(this.#has("admin"));
  readonly managesAgents = $derived(this.#has("admin", "operator"));
  readonly managesSchedules = $derived(this.#has("admin", "operator"));
  readonly seesSchedules = $derived(this.#has("admin", "operator", "auditor"));
  readonly usesAgents = $derived(this.#has("admin", "operator", "member"));

  async load(): Promise<void> {
    this.problem = null;
    try {
      this.begin((await readSession()).body);
    } catch (thrown) {
      const problem = Problem.from(thrown);
      if (problem.status !== 401) this.problem = problem;
    }
    this.known = true;
  }

  begin(answer: SessionAnswer): void {
    api.csrfToken = answer.csrf_token;
    this.user = answer.user;
    this.problem = null;
    this.known = true;
  }

  async signIn(email: string, password: string): Promise<void> {
    this.begin((await signIn({ email, password })).body);
  }

  async signOut(): Promise<void> {
    await signOut();
    this.forget();
    navigation.go("/sign-in");
  }

  forget(): void {
    api.csrfToken = null;
    api.minPosition = 0;
    this.user = null;
  }

  #has(...roles: Role[]): boolean {
    return this.user?.roles.some((role) => roles.includes(role)) ?? false;
  }
}

export const session = new Session();

/** Pages that need nobody to be signed in. */
export const PUBLIC_PAGES: readonly (string | undefined)[] = ["sign-in", "setup"];

api.onSignedOut = () => {
  if (PUBLIC_PAGES.includes(navigation.match?.name)) return;
  session.forget();
  navigation.go(`/sign-in?next=${encodeURIComponent(navigation.path + navigation.query)}`, { replace: true });
};

api.renewCsrfToken = async () => {
  try {
    const answer = (await readSession()).body;
    session.begin(answer);
    return answer.csrf_token;
  } catch {
    return null;
  }
};
