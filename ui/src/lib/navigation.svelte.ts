// The page that is shown, kept in step with the browser's address by the History API.
import { match, type Match, type Routes } from "./router";

const ROUTES = [
  { pattern: "/", name: "agents" },
  { pattern: "/agents", name: "agents" },
  { pattern: "/agents/new", name: "agent-new" },
  { pattern: "/agents/:id", name: "agent" },
  { pattern: "/agents/:id/edit", name: "agent-edit" },
  { pattern: "/tasks", name: "tasks" },
  { pattern: "/tasks/:id", name: "task" },
  { pattern: "/schedules", name: "schedules" },
  { pattern: "/schedules/new", name: "schedule-new" },
  { pattern: "/schedules/:id", name: "schedule" },
  { pattern: "/schedules/:id/edit", name: "schedule-edit" },
  { pattern: "/inbox", name: "inbox" },
  { pattern: "/users", name: "users" },
  { pattern: "/projections", name: "projections" },
  { pattern: "/secrets", name: "secrets" },
  { pattern: "/sign-in", name: "sign-in" },
  { pattern: "/setup", name: "setup" },
] as const satisfies Routes<string>;

export type RouteName = (typeof ROUTES)[number]["name"];

class Navigation {
  path = $state(location.pathname);
  query = $state(location.search);
  readonly match: Match<RouteName> | null = $derived(match<RouteName>(ROUTES, this.path));

  /** Goes to a path of this console; `replace` leaves no way back to the page that is left. */
  go(target: string, options: { replace?: boolean } = {}): void {
    if (options.replace === true) history.replaceState(null, "", target);
    else history.pushState(null, "", target);
    this.#follow();
    scrollTo(0, 0);
  }

  /** Changes the query alone, as a filter does: same page, nothing added to the way back. */
  setQuery(query: string): void {
    history.replaceState(null, "", query === "" ? this.path : `${this.path}?${query}`);
    this.#follow();
  }

  /** Ordinary links of this origin change the page without loading it anew. */
  listen(): void {
    addEventListener("popstate", () => this.#follow());
    document.addEventListener("click", (click) => {
      const link = plainClick(click) ? linkOf(click.target) : null;
      if (link === null) return;
      click.preventDefault();
      this.go(link.pathname + link.search);
    });
  }

  #follow(): void {
    this.path = location.pathname;
    this.query = location.search;
  }
}

function plainClick(click: MouseEvent): boolean {
  return !click.defaultPrevented && click.button === 0 && !click.metaKey && !click.ctrlKey && !click.shiftKey && !click.altKey;
}

function linkOf(target: EventTarget | null): HTMLAnchorElement | null {
  const link = target instanceof Element ? target.closest("a") : null;
  if (link === null || link.origin !== location.origin || link.target !== "" || link.hasAttribute("download")) return null;
  // A link to a place on this very page (the skip link) and the API's own documents stay the browser's business.
  return link.hash !== "" || link.pathname.startsWith("/api/") ? null : link;
}

export const navigation = new Navigation();
