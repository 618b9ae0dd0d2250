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
