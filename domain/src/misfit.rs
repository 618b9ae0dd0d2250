//! What is wrong with stored JSON, told without a word of it.
use serde_json::error::Category;
use std::fmt;

/// Why stored JSON is not what it should be: what is wrong, and where. An error of the parser quotes what it found, and people's
/// words may stand there, while errors end up in logs, in the registry of views and in `/readyz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct Misfit {
    what: &'static str,
    /// 1, 2, 3 …, both; 0 where the JSON was parsed before.
    line: usize,
    column: usize,
}

impl Misfit {
    /// Of JSON that has no place to point at.
    pub fn of(what: &'static str) -> Self {
        Self { what, line: 0, column: 0 }
    }
}

impl From<serde_json::Error> for Misfit {
    fn from(error: serde_json::Error) -> Self {
        let what = match error.classify() {
            Category::Io => "it cannot be read",
            Category::Syntax => "it is no JSON",
            Category::Data => "a value is not of the form that is expected",
            Category::Eof => "it ends too early",
        };
        Self { what, line: error.line(), column: error.column() }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(self.what),
            line => write!(f, "{} at line {line}, column {}", self.what, self.column),
        }
    }
}
