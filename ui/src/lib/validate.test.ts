import { describe, expect, it } from "vitest";
import { checkEmail, checkName, checkOptionalNumber, checkPassword, checkReason, checkRepeated, checkSecretName, checkSecretValue, checkUrl, checkUuid, drawSigningKey, failures, parseJson } from "./validate";

describe("names", () => {
  it("have_1_to_200_characters", () => {
    expect(checkName("")).toBe("Write a name.");
    expect(checkName("   ")).toBe("Write a name.");
    expect(checkName("ä".repeat(200))).toBeNull();
    expect(checkName("ä".repeat(201))).toContain("this has 201");
  });

  it("count_an_emoji_as_one_character", () => {
    expect(checkName("🦉".repeat(200))).toBeNull();
    expect(checkName("🦉".repeat(201))).not.toBeNull();
  });

  it("hold_no_control_characters", () => {
    for (const name of ["a\nb", "a\tb", "a\u0000b", "a\u0085b"]) expect(checkName(name)).toContain("control characters");
  });
});

describe("email addresses", () => {
  it.each(["ada@example.org", " ada@example.org ", "o'hara+x@mail.example.co.uk", "ada@localhost", "ada@пример.рф"])("allows %s", (email) => {
    expect(checkEmail(email)).toBeNull();
  });

  it.each(["", "ada", "@example.org", "ada@", "a b@example.org", "ada@example..org", "ada@.org", "a@b@c", "ä@example.org", "ada@-example.org", `${"a".repeat(65)}@b.c`, `${"a".repeat(251)}@b.c`])("refuses %s", (email) => {
    expect(checkEmail(email)).not.toBeNull();
  });
});

describe("passwords", () => {
  it("have_8_to_200_characters", () => {
    expect(checkPassword("1234567")).toContain("this has 7");
    expect(checkPassword("12345678")).toBeNull();
    expect(checkPassword("x".repeat(200))).toBeNull();
    expect(checkPassword("x".repeat(201))).not.toBeNull();
  });

  it("hold_no_control_characters", () => expect(checkPassword("words\nand more")).toContain("control characters"));

  it("must_be_repeated_exactly", () => {
    expect(checkRepeated("secret words", "secret words")).toBeNull();
    expect(checkRepeated("secret words", "secret word")).not.toBeNull();
  });
});

describe("reasons", () => {
  it("have_1_to_1000_characters", () => {
    expect(checkReason("")).toContain("Write why");
    expect(checkReason(" \n\t")).toContain("Write why");
    expect(checkReason("ä".repeat(1000))).toBeNull();
    expect(checkReason("ä".repeat(1001))).toContain("this has 1001");
  });

  it("may_have_lines_but_no_nul", () => {
    expect(checkReason("one\ntwo")).toBeNull();
    expect(checkReason("a\0b")).toContain("NUL");
  });
});

describe("optional numbers", () => {
  const range = { min: 1, max: 1000, whole: true };

  it("may_be_left_out", () => expect(checkOptionalNumber("  ", range)).toBeNull());

  it("must_be_whole_and_within_bounds", () => {
    expect(checkOptionalNumber("12", range)).toBeNull();
    expect(checkOptionalNumber("1.5", range)).toBe("Write a whole number.");
    expect(checkOptionalNumber("0", range)).toBe("Between 1 and 1000.");
    expect(checkOptionalNumber("1001", range)).toBe("Between 1 and 1000.");
    expect(checkOptionalNumber("many", range)).toBe("Write a number.");
    expect(checkOptionalNumber("Infinity", range)).toBe("Write a number.");
  });
});

describe("JSON", () => {
  it("is_read_as_it_stands", () => expect(parseJson('{"a": [1, null]}')).toEqual({ ok: true, value: { a: [1, null] } }));

  it("that_breaks_off_is_refused_with_line_and_column", () => {
    expect(parseJson('{\n  "a": 1,\n}')).toEqual({ ok: false, words: "This is not JSON at line 3, column 1." });
    expect(parseJson('{"a": 1')).toMatchObject({ ok: false, words: "This is not JSON at line 1, column 8." });
  });

  it("that_is_missing_is_asked_for", () => expect(parseJson(" ")).toMatchObject({ ok: false }));
});

it("only_an_id_is_an_id", () => {
  expect(checkUuid("0190a7c0-0000-7000-8000-000000000000")).toBeNull();
  expect(checkUuid("ada")).not.toBeNull();
});

it("what_passes_leaves_no_failure", () => {
  expect(failures({ "/name": null, "/email": "no" })).toEqual({ "/email": "no" });
});

describe("secrets", () => {
  it("have_names_that_stand_in_addresses", () => {
    for (const name of ["a", "receiver-1_b.c", "0", "x".repeat(64)]) expect(checkSecretName(name), name).toBeNull();
    for (const name of ["", " ", "-a", ".a", "a b", "a/b", "ä", "x".repeat(65)]) expect(checkSecretName(name), name).not.toBeNull();
  });

  it("have_values_of_at_most_64_KiB", () => {
    expect(checkSecretValue("")).not.toBeNull();
    expect(checkSecretValue("a\0b")).not.toBeNull();
    expect(checkSecretValue("x".repeat(65_536))).toBeNull();
    expect(checkSecretValue("ä".repeat(32_769))).not.toBeNull();
  });

  it("are_drawn_as_the_server_takes_them_to_sign_with", () => {
    const key = drawSigningKey();
    expect(key).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    expect(drawSigningKey()).not.toBe(key);
  });
});

describe("addresses", () => {
  it("are_of_HTTP_and_hold_nobodys_password", () => {
    for (const url of ["https://example.org/hook?a=b", " http://10.0.0.1:8080/ ", "HTTPS://Example.org"]) expect(checkUrl(url), url).toBeNull();
    for (const url of ["", "example.org", "//example.org", "https:///x", "mailto:a@example.org", "https://a:b@example.org"]) {
      expect(checkUrl(url), url).not.toBeNull();
    }
  });
});
