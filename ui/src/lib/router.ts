// Which page a path means. Pure: the browser's history is navigation.svelte.ts's business.

export interface Match<Name extends string> {
  name: Name;
  params: Record<string, string>;
}

export type Routes<Name extends string> = readonly { pattern: string; name: Name }[];

/** `/agents/:id` matches one non-empty segment; the first pattern that fits wins; a trailing slash is forgiven. */
export function match<Name extends string>(routes: Routes<Name>, path: string): Match<Name> | null {
  const segments = split(path);
  for (const { pattern, name } of routes) {
    const params = matchSegments(split(pattern), segments);
    if (params !== null) return { name, params };
  }
  return null;
}

/** Where signing in leads back to: a path of this console and nothing else, whatever the query says. */
export function safeNext(next: string | null): string {
  if (next === null || !next.startsWith("/") || next.startsWith("//") || /[\\\p{Cc}]/u.test(next)) return "/";
  return next.startsWith("/sign-in") || next.startsWith("/setup") ? "/" : next;
}

function split(path: string): string[] {
  return path.split("/").filter((segment) => segment !== "");
}

function matchSegments(pattern: string[], segments: string[]): Record<string, string> | null {
  if (pattern.length !== segments.length) return null;
  const params: Record<string, string> = {};
  for (const [index, part] of pattern.entries()) {
    const segment = segments[index] ?? "";
    if (part.startsWith(":")) params[part.slice(1)] = decode(segment);
    else if (part !== segment) return null;
  }
  return params;
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
