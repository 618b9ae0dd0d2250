// The server's rules for what people type, checked before it is sent. Each check answers words, or null when all is well.

/** Names, titles and display names: the contract's bound, in characters. */
export const NAME_CHARACTERS_MAX = 200;
/** Long enough to stand against guessing, as the server demands. */
export const PASSWORD_CHARACTERS_MIN = 8;
/** Bounded so that hashing a password has a bounded cost. */
export const PASSWORD_CHARACTERS_MAX = 200;
/** RFC 5321: the longest address that mail can carry. */
export const EMAIL_CHARACTERS_MAX = 254;

const CONTROL_CHARACTER = /\p{Cc}/u;
/** What the server takes: an address of ASCII letters, digits and the usual signs, at a domain of any script. */
const EMAIL_USER = /^[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}$/i;
const EMAIL_DOMAIN = /^[\p{L}\p{N}]([\p{L}\p{N}-]{0,61}[\p{L}\p{N}])?(\.[\p{L}\p{N}]([\p{L}\p{N}-]{0,61}[\p{L}\p{N}])?)*$/u;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export type Check = string | null;

/** Characters as people count them: an emoji is one, as in the server's Unicode scalar values. */
export function characters(text: string): number {
  return [...text].length;
}

export function checkName(name: string, what = "a name"): Check {
  if (name.trim() === "") return `Write ${what}.`;
  if (characters(name) > NAME_CHARACTERS_MAX) return `At most ${NAME_CHARACTERS_MAX} characters; this has ${characters(name)}.`;
  if (CONTROL_CHARACTER.test(name)) return "No line breaks, tabs or other control characters.";
  return null;
}

export function checkEmail(email: string): Check {
  if (email.trim() === "") return "Write an email address.";
  if (characters(email) > EMAIL_CHARACTERS_MAX) return `At most ${EMAIL_CHARACTERS_MAX} characters.`;
  const [user = "", domain = "", ...more] = email.trim().split("@");
  const fits = more.length === 0 && EMAIL_USER.test(user) && EMAIL_DOMAIN.test(domain);
  return fits ? null : "An email address looks like name@example.org.";
}

export function checkPassword(password: string): Check {
  if (password === "") return "Write a password.";
  if (characters(password) < PASSWORD_CHARACTERS_MIN) return `At least ${PASSWORD_CHARACTERS_MIN} characters; this has ${characters(password)}.`;
  if (characters(password) > PASSWORD_CHARACTERS_MAX) return `At most ${PASSWORD_CHARACTERS_MAX} characters.`;
  if (CONTROL_CHARACTER.test(password)) return "No line breaks, tabs or other control characters.";
  return null;
}

export function checkRepeated(password: string, repeated: string): Check {
  return password === repeated ? null : "The two passwords differ.";
}

/** Why an administrator did something that cannot be undone: kept in the log, a paragraph at most. */
export const REASON_CHARACTERS_MAX = 1000;

export function checkReason(reason: string): Check {
  if (reason.trim() === "") return "Write why: others will read it later.";
  if (characters(reason) > REASON_CHARACTERS_MAX) return `At most ${REASON_CHARACTERS_MAX} characters; this has ${characters(reason)}.`;
  if (reason.includes("\0")) return "No NUL characters.";
  return null;
}

export interface Range {
  min: number;
  max: number;
  /** Whole numbers only. */
  whole?: boolean;
}

/** An empty text is fine: the value is optional. */
export function checkOptionalNumber(text: string, range: Range): Check {
  if (text.trim() === "") return null;
  const value = Number(text);
  if (!Number.isFinite(value)) return "Write a number.";
  if (range.whole === true && !Number.isInteger(value)) return "Write a whole number.";
  if (value < range.min || value > range.max) return `Between ${range.min} and ${range.max}.`;
  return null;
}

export function checkUuid(id: string): Check {
  return UUID.test(id.trim()) ? null : "Write the person's id, such as 0190a7c0-0000-7000-8000-000000000000.";
}

/** The server's bound: what common servers take. */
export const URL_CHARACTERS_MAX = 2048;

/** Which addresses may be called at all, the server says. */
export function checkUrl(text: string): Check {
  const url = text.trim();
  if (url === "") return "Write an address.";
  if (url.length > URL_CHARACTERS_MAX) return `At most ${URL_CHARACTERS_MAX} characters.`;
  if (!/^https?:\/\/[^/?#]/i.test(url) || !URL.canParse(url)) return "An address looks like https://example.org/hook.";
  const parsed = new URL(url);
  if (parsed.username !== "" || parsed.password !== "") return "No user and password in the address: use a secret.";
  return null;
}

/** The server's bounds of a secret. */
export const SECRET_NAME_CHARACTERS_MAX = 64;
export const SECRET_BYTES_MAX = 65_536;

export function checkSecretName(name: string): Check {
  if (name.trim() === "") return "Write a name.";
  if (name.length > SECRET_NAME_CHARACTERS_MAX) return `At most ${SECRET_NAME_CHARACTERS_MAX} characters.`;
  return /^[a-z0-9][a-z0-9._-]*$/i.test(name) ? null : "Letters, digits, dots, hyphens and underscores, beginning with a letter or a digit.";
}

export function checkSecretValue(value: string): Check {
  if (value === "") return "Write or paste the value.";
  if (new TextEncoder().encode(value).length > SECRET_BYTES_MAX) return `At most ${SECRET_BYTES_MAX} bytes.`;
  return value.includes("\0") ? "No NUL characters." : null;
}

/** A fresh key to sign webhooks with, as Standard Webhooks writes them. */
export function drawSigningKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(32));
  return `whsec_${btoa(String.fromCharCode(...bytes))}`;
}

export type Parsed = { ok: true; value: unknown } | { ok: false; words: string };

/** JSON a person wrote, or where it stops being JSON, in line and column. */
export function parseJson(text: string): Parsed {
  if (text.trim() === "") return { ok: false, words: "Write JSON, for example {}." };
  try {
    return { ok: true, value: JSON.parse(text) };
  } catch (thrown) {
    return { ok: false, words: `This is not JSON${place(text, thrown)}.` };
  }
}

function place(text: string, thrown: unknown): string {
  const message = thrown instanceof Error ? thrown.message : "";
  const offset = /position (\d+)/.exec(message)?.[1];
  const at = offset === undefined ? (/end of JSON|Unexpected end/i.test(message) ? text.length : undefined) : Number(offset);
  if (at === undefined) return "";
  const before = text.slice(0, at).split("\n");
  return ` at line ${before.length}, column ${(before.at(-1) ?? "").length + 1}`;
}

/** Keeps the checks that found something; an empty answer means the form may be sent. */
export function failures(checks: Record<string, Check>): Record<string, string> {
  return Object.fromEntries(Object.entries(checks).filter((entry): entry is [string, string] => entry[1] !== null));
}
