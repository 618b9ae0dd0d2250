//! The regular expressions of a rule set, compiled once when it is configured.
use regex::{Regex, RegexBuilder};

/// Characters of one pattern: enough for an address or an order number, too few for a hidden program.
pub const PATTERN_CHARS_MAX: usize = 256;

/// Different patterns of one rule set; bounds the memory that compiled patterns hold.
pub const PATTERNS_MAX: usize = 100;

/// Sizes a compiled pattern may have, in KiB. Matching is linear in the text but its factor grows with the pattern, so each byte
/// of text costs as many units as the pattern has KiB.
const COMPILED_KIB: [u32; 4] = [4, 16, 64, 256];

#[derive(Debug, Clone)]
pub(super) struct Pattern {
    source: String,
    pub regex: Regex,
    pub units_per_byte: u64,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Patterns(Vec<Pattern>);

impl Patterns {
    /// The number of this pattern, compiled now unless it was met before.
    pub fn add(&mut self, source: &str) -> Result<i64, String> {
        let number = match self.0.iter().position(|pattern| pattern.source == source) {
            Some(known) => known,
            None => {
                let pattern = compile(source)?;
                if self.0.len() == PATTERNS_MAX {
                    return Err(format!("at most {PATTERNS_MAX} different patterns are kept"));
                }
                self.0.push(pattern);
                self.0.len() - 1
            }
        };
        i64::try_from(number).map_err(|_| "too many patterns".into())
    }

    pub fn get(&self, number: i64) -> Option<&Pattern> {
        self.0.get(usize::try_from(number).ok()?)
    }
}

fn compile(source: &str) -> Result<Pattern, String> {
    if source.chars().count() > PATTERN_CHARS_MAX {
        return Err(format!("a pattern has at most {PATTERN_CHARS_MAX} characters"));
    }
    let mut refusal = String::new();
    for kib in COMPILED_KIB {
        let bytes = kib as usize * 1024;
        match RegexBuilder::new(source).size_limit(bytes).dfa_size_limit(bytes).build() {
            Ok(regex) => return Ok(Pattern { source: source.into(), regex, units_per_byte: u64::from(kib) }),
            Err(regex::Error::CompiledTooBig(_)) => {
                refusal = "the pattern is too large; write fewer or smaller repetitions".into()
            }
            Err(error) => return Err(format!("not a valid pattern: {}", last_line(&error.to_string()))),
        }
    }
    Err(refusal)
}

/// The reason alone, without the drawing of the pattern above it.
fn last_line(message: &str) -> &str {
    message.lines().last().unwrap_or(message).trim_start_matches("error: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_pattern_is_compiled_once() {
        let mut patterns = Patterns::default();
        assert_eq!((patterns.add("^a"), patterns.add("b"), patterns.add("^a")), (Ok(0), Ok(1), Ok(0)));
    }

    #[test]
    fn patterns_that_are_wrong_long_or_large_are_refused() {
        let mut patterns = Patterns::default();
        assert_eq!(patterns.add("(a"), Err("not a valid pattern: unclosed group".into()));
        assert!(patterns.add(&"a".repeat(PATTERN_CHARS_MAX + 1)).is_err());
        assert!(patterns.add(r"(\pL{100}){100}").unwrap_err().contains("too large"));
    }

    #[test]
    fn everyday_patterns_are_cheap() {
        let mut patterns = Patterns::default();
        for (source, units) in [("^ORD-[0-9]{4}$", 4), (r"^[^@\s]+@[^@\s]+\.[a-z]+$", 64)] {
            let number = patterns.add(source).unwrap();
            assert!(patterns.get(number).unwrap().units_per_byte <= units, "{source}");
        }
    }
}
